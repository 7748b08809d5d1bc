"""Images of any size for networks that want multiples of their stride, whole or in tiles."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of ``(N, C, H, W)`` until both sides are multiples.

    Repeating costs fewer bits than zeros, which would put an edge into the latents.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def crop_to(x: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`pad_to_multiple`: keep the top left ``height`` x ``width``."""
    return x[..., :height, :width]


def ceil_div(size: int, stride: int) -> int:
    """How many steps of ``stride`` cover ``size``."""
    return -(-size // stride)


class Grid(NamedTuple):
    """Tiles of one size that cover an image, row by row.

    Attributes:
        rows, columns: number of tiles.
        height, width: pixels of one tile.
    """

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def cover(cls, height: int, width: int, stride: int, tile: int | None) -> Grid:
        """Square tiles of side ``tile``, or a single one: the image padded to the stride."""
        if tile is None:
            return cls(1, 1, *(ceil_div(side, stride) * stride for side in (height, width)))
        return cls(ceil_div(height, tile), ceil_div(width, tile), tile, tile)

    def split(self, x: Tensor, mode: str = "replicate") -> Tensor:
        """``(N, C, H, W)`` to ``(N * rows * columns, C, height, width)``, padded as torch does."""
        bottom, right = self.rows * self.height, self.columns * self.width
        x = F.pad(x, (0, right - x.shape[-1], 0, bottom - x.shape[-2]), mode=mode)
        x = x.unflatten(-1, (self.columns, self.width)).unflatten(-3, (self.rows, self.height))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def join(self, tiles: Tensor, height: int, width: int) -> Tensor:
        """Undo :meth:`split`: the images ``(N, C, height, width)``."""
        x = tiles.unflatten(0, (-1, self.rows, self.columns)).permute(0, 3, 1, 4, 2, 5)
        return crop_to(x.flatten(4, 5).flatten(2, 3), height, width)

    def mse(self, tiles: Tensor, x: Tensor) -> Tensor:
        """Mean squared error of every tile over the pixels that x ``(N, C, H, W)`` has."""
        pixels = self.split(torch.ones_like(x[:, :1]), mode="constant")
        squares = (tiles - self.split(x)).square().mean(1, keepdim=True)
        return (squares * pixels).sum((1, 2, 3)) / pixels.sum((1, 2, 3))
