"""The residual autoencoder with shared weights: one network codes every residual."""

from __future__ import annotations

from torch import nn

from lic_train.modules.codecs.base.patch import PatchCodec
from lic_train.modules.layers.patches import decoder, encoder


class ResidualShared(PatchCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the fully connected residual autoencoder, shared weights.

    ::

        r_{t-1} -> 4 x (FC, tanh) -> B -> b_t, 4 bits per 8x8 pixels
        b_t -> 4 x (FC, tanh) -> r_hat_t;  x_hat_t = r_hat_1 + ... + r_hat_t

    The network cannot know which residual it has before it: the paper's weakest model, there to be
    compared with. Not reproduced: the training data and schedule.
    """

    paper_adds = True

    def networks(self, width: int, bits: int, iterations: int) -> tuple[nn.Module, nn.Module]:
        return encoder(width, bits), decoder(width, bits)
