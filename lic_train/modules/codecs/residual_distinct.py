"""The residual autoencoder with distinct weights: every iteration has its own networks."""

from __future__ import annotations

from torch import nn

from lic_train.modules.codecs.base.patch import PatchCodec
from lic_train.modules.layers.conv_lstm import Stages
from lic_train.modules.layers.patches import decoder, encoder


class ResidualDistinct(PatchCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the fully connected residual autoencoder, distinct weights.

    ::

        r_{t-1} -> E_t: 4 x (FC, tanh) -> B -> b_t, 4 bits per 8x8 pixels
        b_t -> D_t: 4 x (FC, tanh) -> r_hat_t;  x_hat_t = r_hat_1 + ... + r_hat_t

    Not reproduced: the training data and schedule.
    """

    paper_adds = True

    def networks(self, width: int, bits: int, iterations: int) -> tuple[nn.Module, nn.Module]:
        pairs = [(encoder(width, bits), decoder(width, bits)) for _ in range(iterations)]
        encoders, decoders = zip(*pairs, strict=True)
        return Stages(encoders), Stages(decoders)
