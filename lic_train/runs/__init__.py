"""What lies on disk of runs: names, states and settings, read without a deep-learning library."""
