"""LIFF: an image predicted at any larger size by a filter generated for each of its pixels."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Size = tuple[int, int]


class DenseBlock(nn.Module):
    """Residual dense block: each 3x3 convolution sees all before it; a 1x1 fuses; skip."""

    def __init__(self, features: int, layers: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(features + i * growth, growth, 3, padding=1) for i in range(layers)
        )
        self.fuse = nn.Conv2d(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.convs:
            seen = torch.cat([seen, conv(seen).relu()], dim=1)
        return x + self.fuse(seen)


class RDN(nn.Module):
    """Residual dense network (arXiv 1802.08797) without its up-sampler.

    Image ``(N, 3, h, w)`` to features ``(N, C, h, w)``; the defaults are preset "D" of the COMPASS
    authors, 658,112 parameters.
    """

    def __init__(self, features: int = 64, blocks: int = 4, layers: int = 4, growth: int = 32):
        super().__init__()
        self.shallow = nn.Conv2d(3, features, 3, padding=1)
        self.deeper = nn.Conv2d(features, features, 3, padding=1)
        self.blocks = nn.ModuleList(DenseBlock(features, layers, growth) for _ in range(blocks))
        self.fuse = nn.Sequential(
            nn.Conv2d(blocks * features, features, 1), nn.Conv2d(features, features, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.shallow(x)
        dense = [self.deeper(shallow)]
        for block in self.blocks:
            dense.append(block(dense[-1]))
        return shallow + self.fuse(torch.cat(dense[1:], dim=1))


class LIFF(nn.Module):
    """Local implicit filter function of COMPASS (ICCV 2023): image to a prediction of any size.

    ::

        x (N, 3, h, w) -> RDN -> 3x3 unfold -> f (9 C)
        per pixel: nearest f, offset to its centre (2), pixel size (2) -> MLP -> filter (9 C, 3)
                   f x filter -> RGB, unclamped

    At 64 features a pixel's filter is 1728 numbers, 2.7 GB for 768x512 pixels: queries go through
    the MLP in chunks of whole rows, and where there are several each is computed again for its
    gradient.
    Where a pixel's centre lies between two of ``x``, the lower right one is the nearest. Indices,
    offsets and pixel sizes come from integers, per axis.

    Args:
        features: channels C of the RDN.
        blocks, layers, growth: of the RDN.
        hidden: width of the four hidden layers of the MLP.
        queries: pixels per chunk.
    """

    def __init__(
        self,
        features: int = 64,
        blocks: int = 4,
        layers: int = 4,
        growth: int = 32,
        hidden: int = 256,
        queries: int = 65536,
    ) -> None:
        super().__init__()
        if queries < 1:
            raise ValueError(f"queries is {queries}: a chunk has at least 1 pixel")
        self.queries = queries
        self.encoder = RDN(features, blocks, layers, growth)
        unfolded = 9 * features
        widths = (unfolded + 4, hidden, hidden, hidden, hidden)
        hiddens = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.filters = nn.Sequential(
            *(layer for pair in hiddens for layer in pair), nn.Linear(hidden, 3 * unfolded)
        )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """``(N, 3, h, w)`` to ``(N, 3, *size)``."""
        low: Size = (x.shape[-2], x.shape[-1])
        features = F.unfold(self.encoder(x), 3, padding=1).unflatten(-1, low).permute(0, 2, 3, 1)
        rows, columns = (axis(n, m, x.device) for n, m in zip(low, size, strict=True))
        height, width = size
        step = max(1, self.queries // width)
        query: Any = self._query
        if torch.is_grad_enabled() and len(x) * height > step:
            query = partial(checkpoint, self._query, use_reentrant=False)
        parts = [
            query(image, tuple(values[first : first + step] for values in rows), columns)
            for image in features
            for first in range(0, height, step)
        ]
        return torch.cat(parts).reshape(len(x), height, width, 3).permute(0, 3, 1, 2)

    def _query(self, image: Tensor, rows: Axis, columns: Axis) -> Tensor:
        """RGB ``(rows * columns, 3)`` of pixels, from features ``(h, w, 9 C)``."""
        f = image[rows[0]][:, columns[0]].flatten(0, 1)
        where = [torch.cartesian_prod(rows[i], columns[i]).to(f) for i in (1, 2)]
        filters = self.filters(torch.cat([f, *where], dim=1)).unflatten(1, (-1, 3))
        return torch.bmm(f[:, None], filters)[:, 0]


Axis = tuple[Tensor, ...]
"""(nearest index, offset to its centre in half pixels, 2 / scale) of every target row or column."""


def axis(low: int, high: int, device: torch.device) -> Axis:
    """What the pixels of one side, ``high`` long, know of the ``low`` they are made from.

    In coordinates from -1 to 1, where pixel i of n is centred at ``-1 + (2i + 1) / n``: the offset
    is the distance of both centres times ``low``, in [-1, 1); 2 / scale is the size of a target
    pixel times ``low``, 2 where the scale is 1.
    """
    centre = (2 * torch.arange(high, device=device) + 1) * low  # in units of 1 / (low * high)
    nearest = centre // (2 * high)
    offset = (centre - (2 * nearest + 1) * high).double() / high
    return nearest, offset.float(), torch.full((high,), 2 * low / high, device=device)
