"""The fully connected LSTM codec: 8x8 patches, each coded on its own."""

from __future__ import annotations

from lic_train.modules.codecs.progressive import ProgressiveCodec
from lic_train.modules.layers.patches import PATCH, recurrent_decoder, recurrent_encoder


class PatchLSTM(ProgressiveCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the LSTM of its figure 2.

    ::

        r_{t-1} -> FC, tanh -> LSTM -> LSTM -> FC, tanh -> B -> b_t, 4 bits per 8x8 pixels
        b_t -> FC, tanh -> LSTM -> LSTM -> FC, tanh -> x_hat_t

    A 32x32 thumbnail costs 64 bits, 8 bytes, an iteration. Not reproduced: the training data and
    schedule; the activation of the last layer is not published.

    Args:
        width: of every layer.
        bits: per patch and iteration.
        iterations: that are trained and can be sent.
        additive: whether reconstructions add up; the paper's LSTM gives the whole patch each time.
        target_psnr: dB at which a patch gets no further iterations; None sends all.
    """

    def __init__(
        self,
        width: int = 512,
        bits: int = 4,
        iterations: int = 16,
        additive: bool = False,
        target_psnr: float | None = None,
    ) -> None:
        super().__init__(
            recurrent_encoder(width, bits),
            recurrent_decoder(width, bits),
            bits=bits,
            stride=PATCH,
            iterations=iterations,
            additive=additive,
            tile=PATCH,
            target_psnr=target_psnr,
        )
