"""Side information: a second, smaller latent z, coded first, that tells how y is distributed."""

from __future__ import annotations

from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lic_train.modules.codecs.base.transform import TransformCodec, float32
from lic_train.modules.entropy.bottleneck import decode_bottleneck, encode_bottleneck, price
from lic_train.modules.layers.padding import ceil_div

HYPER_STRIDE = 4
"""Positions of y a side that one position of z stands for."""


class HyperpriorCodec(TransformCodec):
    """``y -> h_a -> z -> Q -> z_hat``, under a factorised prior (Ballé et al. 2018)."""

    h_a: nn.Module
    entropy_bottleneck: EntropyBottleneck

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y ``(N, M, h, w)`` to z ``(N, C, h/4, w/4)``."""
        return self.h_a(y)

    def side(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """z_hat (noisy in training) and its likelihoods, float32; without z it has no channels."""
        z = self.hyper_analysis(y)
        with float32(z):
            z_hat, likelihood = price(self.entropy_bottleneck, z)
        return z_hat, {"z": likelihood}

    def encode_side(self, y: Tensor) -> tuple[Tensor, list[bytes]]:
        """z_hat as the decoder will have it, and the chunks that hold it."""
        z_hat, chunk = encode_bottleneck(self.entropy_bottleneck, self.hyper_analysis(y))
        return z_hat, [chunk]

    def decode_side(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        """z_hat for latents y of ``size``."""
        height, width = ceil_div(size[0], HYPER_STRIDE), ceil_div(size[1], HYPER_STRIDE)
        return decode_bottleneck(self.entropy_bottleneck, chunks[0], height, width)
