"""The residual autoencoder with distinct weights: every iteration has its own networks."""

from __future__ import annotations

from lic_train.modules.codecs.progressive import ProgressiveCodec
from lic_train.modules.layers.conv_lstm import Stages
from lic_train.modules.layers.patches import PATCH, decoder, encoder


class ResidualDistinct(ProgressiveCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the fully connected residual autoencoder, distinct weights.

    ::

        r_{t-1} -> E_t: 4 x (FC, tanh) -> B -> b_t, 4 bits per 8x8 pixels
        b_t -> D_t: 4 x (FC, tanh) -> r_hat_t;  x_hat_t = r_hat_1 + ... + r_hat_t

    Not reproduced: the training data and schedule.

    Args:
        width: of the hidden layers.
        bits: per patch and iteration.
        iterations: that are trained and can be sent, each with two networks.
        additive: False would ask for the whole patch at every iteration.
        target_psnr: dB at which a patch gets no further iterations; None sends all.
    """

    def __init__(
        self,
        width: int = 512,
        bits: int = 4,
        iterations: int = 16,
        additive: bool = True,
        target_psnr: float | None = None,
    ) -> None:
        super().__init__(
            Stages(encoder(width, bits) for _ in range(iterations)),
            Stages(decoder(width, bits) for _ in range(iterations)),
            bits=bits,
            stride=PATCH,
            iterations=iterations,
            additive=additive,
            tile=PATCH,
            target_psnr=target_psnr,
        )
