"""DVC's codec of motion fields: latents under a factorised prior, no side information."""

from __future__ import annotations

from typing import Any

from compressai.entropy_models import EntropyBottleneck
from compressai.models.utils import conv, deconv
from torch import Tensor, nn

from lic_train.modules.codecs.base.quantise import straight_through
from lic_train.modules.codecs.base.transform import LATENT_STRIDE, TransformCodec, float32
from lic_train.modules.entropy.bottleneck import (
    decode_bottleneck,
    encode_bottleneck,
    price,
    price_as_is,
)
from lic_train.modules.entropy.symbols import seal, unseal, verify


class MotionFactorised(TransformCodec):
    """The motion autoencoder of DVC (arXiv 1812.00101), as its authors' group's code has it.

    ::

        v (2 channels, in pixels) -> g_a -> y -> Q -> y_hat -> g_s -> v_hat

    Not reproduced: the four-stage prior of that code (here CompressAI's) and the paper's GDN.

    Args:
        N: channels everywhere; 128 is the paper's.
        start: "wavelet": the transforms begin as a wavelet packet, see :mod:`.layers.wavelet`;
            "random": as noise.
        start_lmbda: the trade-off that a wavelet start is made for.
        quantise: what stands for rounding in training, see :mod:`.base.quantise`.
    """

    channels = 2
    stride = LATENT_STRIDE
    num_chunks = 1

    def __init__(
        self,
        N: int = 128,
        start: str = "random",
        start_lmbda: float = 0.0067,
        quantise: str = "noise",
    ) -> None:
        super().__init__()
        self.g_a = _coder([_down(2, N), _same(N), _down(N, N), _same(N), _down(N, N), _same(N),
                           _down(N, N), _same(N)])  # fmt: skip
        self.g_s = _coder([_up(N), _same(N), _up(N), _same(N), _up(N), _same(N), _up(N),
                           _same(N, 2)])  # fmt: skip
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.begin(start, start_lmbda, quantise)

    def latents(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with float32(y):
            if self.training and self.quantise == "ste":
                y = straight_through(y.float(), self._medians())
                return y, {"y": price_as_is(self.entropy_bottleneck, y)}
            y_hat, likelihood = price(self.entropy_bottleneck, y)
            if self.training and self.quantise == "mixed":
                y_hat = straight_through(y.float(), self._medians())
        return y_hat, {"y": likelihood}

    def encode_latents(self, y: Tensor) -> list[bytes]:
        y_hat, chunk = encode_bottleneck(self.entropy_bottleneck, y)
        return [seal(chunk, self._symbols(y_hat))]

    def decode_latents(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        chunk, checksum = unseal(chunks[0])
        y_hat = decode_bottleneck(self.entropy_bottleneck, chunk, *size)
        verify(self._symbols(y_hat), checksum)
        return y_hat

    def _symbols(self, y_hat: Tensor) -> Any:
        return (y_hat - self._medians()).round().int().cpu().numpy()

    def _medians(self) -> Tensor:
        return self.entropy_bottleneck.quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)


def _coder(layers: list[nn.Module]) -> nn.Sequential:
    """The layers with LeakyReLU(0.1) between them."""
    between = [m for layer in layers for m in (layer, nn.LeakyReLU(0.1, inplace=True))]
    return nn.Sequential(*between[:-1])


def _down(before: int, after: int) -> nn.Module:
    return conv(before, after, kernel_size=3)


def _same(before: int, after: int | None = None) -> nn.Module:
    return conv(before, after or before, kernel_size=3, stride=1)


def _up(channels: int) -> nn.Module:
    return deconv(channels, channels, kernel_size=3)
