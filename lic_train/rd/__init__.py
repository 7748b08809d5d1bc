"""Rate and distortion: metrics, rows, curves, BD-rate, published figures."""
