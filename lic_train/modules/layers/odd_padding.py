"""Hierarchical odd padding: what is odd gains one row or column just before it is halved.

Padding the image to multiples of 64 codes up to 63 rows that nobody sees; here every stage rounds
up by itself. All is derived from the size of the image, so a decoder that knows the size crops as
the encoder padded, whatever either of them did before.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


class OddAnalysis(nn.Sequential):
    """Layers whose convolutions see even sizes only: sides end up ceil-halved at each stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(pad_to_even(x) if isinstance(layer, nn.Conv2d) else x)
        return x


class OddSynthesis(nn.Sequential):
    """The mirror of :class:`OddAnalysis`: after each (de)convolution the added row is dropped."""

    def forward(self, x: Tensor, size: Size) -> Tensor:  # type: ignore[override]
        """``(N, C, h, w)`` to ``(N, C', *size)``, where an analysis brought ``size`` to h, w."""
        crops = iter(self._sizes(size))
        for layer in self:
            x = layer(x)
            if _is_convolution(layer):
                x = crop_to_last(x, next(crops))
        return x

    def _sizes(self, size: Size) -> list[Size]:
        """The size after each convolution, first to last, worked out from the last one's."""
        sizes: list[Size] = []
        for layer in filter(_is_convolution, reversed(self)):
            sizes.insert(0, size)
            stride = layer.stride[0] if isinstance(layer, nn.ConvTranspose2d) else 1
            size = _even(size[0]) // stride, _even(size[1]) // stride
        return sizes


def pad_to_even(x: Tensor) -> Tensor:
    """Repeat the top row of ``(N, C, H, W)`` where H is odd, the left column where W is."""
    top, left = x.shape[-2] % 2, x.shape[-1] % 2
    return F.pad(x, (left, 0, top, 0), mode="replicate") if top or left else x


def crop_to_last(x: Tensor, size: Size) -> Tensor:
    """Undo :func:`pad_to_even`: keep the bottom right ``size``."""
    return x[..., x.shape[-2] - size[0] :, x.shape[-1] - size[1] :]


def _is_convolution(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)


def _even(side: int) -> int:
    return side + side % 2
