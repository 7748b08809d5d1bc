"""The fully connected LSTM codec: 8x8 patches, each coded on its own."""

from __future__ import annotations

from torch import nn

from lic_train.modules.codecs.base.patch import PatchCodec
from lic_train.modules.layers.patches import recurrent_decoder, recurrent_encoder


class PatchLSTM(PatchCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the LSTM of its figure 2.

    ::

        r_{t-1} -> FC, tanh -> LSTM -> LSTM -> FC, tanh -> B -> b_t, 4 bits per 8x8 pixels
        b_t -> FC, tanh -> LSTM -> LSTM -> FC, tanh -> x_hat_t

    Not reproduced: the training data and schedule. The last activation is not published.
    """

    paper_adds = False

    def networks(self, width: int, bits: int, iterations: int) -> tuple[nn.Module, nn.Module]:
        return recurrent_encoder(width, bits), recurrent_decoder(width, bits)
