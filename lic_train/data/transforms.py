"""A crop is a function of an image and a random generator, and of nothing else."""

from __future__ import annotations

import itertools
import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lic_train.errors import DataError


class Crop(Protocol):
    """A crop as the data module calls it, with pixels and a generator.

    It turns uint8 ``(..., 3, H, W)`` into uint8 ``(..., 3, s, s)``.

    Attributes:
        size: the side s in pixels; an image whose short side is below it is upscaled.
    """

    size: int

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor: ...

    def window(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int]:
        """Return the square that a call takes out of an image of this height and width.

        Args:
            height, width: in pixels.
            generator: that of the call, or one in the same state.

        Returns:
            Top, left and side in pixels.
        """
        ...


class RandomResizedCrop:
    """A random square of the image at a random scale, resized to ``size`` x ``size`` pixels.

    The square's side is drawn log-uniformly from ``size / max_scale`` to ``size / min_scale``
    pixels, at most the image's short side, and resized with antialiasing (bicubic, on 8-bit
    samples). With ``min_scale=1`` the crop is plain: its samples are those of the image. An image
    whose short side is below ``size`` is upscaled: its largest squares are resized to ``size``. All
    frames of a clip are cropped alike, unless the crop pans.

    Args:
        size: side of the crop in pixels, at least 1.
        min_scale, max_scale: ``0 < min_scale <= max_scale <= 1``.
        horizontal_flip, vertical_flip, transpose: whether to flip left and right, flip top and
            bottom, or swap rows and columns, each with probability 1/2. Together they give all
            eight orientations, which few photographs need.
        colours: whether to permute the channels and to change contrast and brightness.
        pan: maximum speed, in pixels of the crop per frame and axis, at which the square moves over
            the frames of a clip; at least 0. The speed is constant within a clip and more often
            slow than fast. The square moves by whole pixels of the image and stays inside it.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(
        self,
        size: int,
        min_scale: float = 0.5,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        transpose: bool = False,
        colours: bool = False,
        max_scale: float = 1.0,
        pan: float = 0,
    ) -> None:
        if size < 1:
            raise DataError(f"the crop size is {size}; give at least 1 pixel")
        if not 0 < min_scale <= 1:
            raise DataError(f"min_scale is {min_scale}; give a number above 0 and at most 1")
        if not min_scale <= max_scale <= 1:
            raise DataError(f"max_scale is {max_scale}; give a number from min_scale to 1")
        if not pan >= 0:
            raise DataError(f"pan is {pan}; give 0 or more pixels a frame")
        self.size = size
        self.min_scale, self.max_scale = min_scale, max_scale
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.transpose = transpose
        self.colours = colours
        self.pan = pan

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Crop uint8 ``(..., 3, H, W)`` to uint8 ``(..., 3, size, size)``.

        Nine numbers are drawn from the generator, or eleven if a clip is panned.
        """
        height, width = pixels.shape[-2:]
        draws = _nine(generator)
        top, left, side = self._window(height, width, draws)
        if self.pan and pixels.ndim > 3:
            square = self._panned(pixels, side, draws, generator)
        else:
            square = pixels[..., top : top + side, left : left + side]
        if side != self.size:
            images = square.flatten(0, -4) if square.ndim > 3 else square[None]
            images = interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
            square = images.reshape(*square.shape[:-2], self.size, self.size)
        if self.horizontal_flip and draws[3] < 0.5:
            square = square.flip(-1)
        if self.vertical_flip and draws[4] < 0.5:
            square = square.flip(-2)
        if self.transpose and draws[5] < 0.5:
            square = square.transpose(-2, -1)
        return self._recolour(square, draws[6:]) if self.colours else square

    def window(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int]:
        """Return top, left and side, in pixels, of the square that is taken, see ``Crop``.

        For a clip that is panned, only the side is exact.
        """
        return self._window(height, width, _nine(generator))

    def _window(self, height: int, width: int, draws: list[float]) -> tuple[int, int, int]:
        side = self._side(min(height, width), draws[0])
        return int(draws[1] * (height - side + 1)), int(draws[2] * (width - side + 1)), side

    def _panned(
        self, pixels: Tensor, side: int, draws: list[float], generator: torch.Generator
    ) -> Tensor:
        """Squares of the frames of a clip, each on from the one before; two more draws."""
        height, width = pixels.shape[-2:]
        shares = 2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1
        down, right = (shares**3 * self.pan * side / self.size).tolist()  # pixels of the image
        frames = pixels.shape[-4]
        tops = _path(draws[1], height - side, down, frames)
        lefts = _path(draws[2], width - side, right, frames)
        starts = enumerate(zip(tops, lefts, strict=True))
        own = [pixels[..., t, :, y : y + side, x : x + side] for t, (y, x) in starts]
        return torch.stack(own, dim=-4)

    def _recolour(self, square: Tensor, draws: list[float]) -> Tensor:
        """Channels in another order, contrast times 0.5 to 1.25, brightness up to 32 levels away;
        three draws in [0, 1)."""
        order = list(itertools.permutations(range(3)))[int(draws[0] * 6)]
        contrast, shift = 0.5 * 2.5 ** draws[1], 64 * (draws[2] - 0.5)
        mean = square.float().mean()
        levels = (torch.arange(256.0) - mean) * contrast + (mean + shift)
        table = levels.round_().clamp_(0, 255).to(torch.uint8).numpy()
        return torch.from_numpy(table[square[..., list(order), :, :].numpy()])

    def _side(self, short_side: int, draw: float) -> int:
        """Side of the source square in pixels, for a draw in [0, 1)."""
        largest = min(self.size / self.min_scale, short_side)
        smallest = min(self.size / self.max_scale, short_side)
        if largest <= smallest:
            return min(round(smallest), short_side)
        return round(math.exp(math.log(smallest) + draw * math.log(largest / smallest)))


class RandomThumbnail(RandomResizedCrop):
    """A random square of the image, small or large, resized to a ``size`` x ``size`` thumbnail.

    The square's side is drawn log-uniformly from ``min_share`` of the image's short side to all of
    it, so that thumbnails of whole scenes and of details are about equally sharp. No square is
    smaller than ``size``: an image of ``size`` x ``size`` is already a thumbnail and is taken as it
    is. Resampling, flips and colours are those of ``RandomResizedCrop``.

    Args:
        size: side of the thumbnail in pixels, at least 1.
        min_share: smallest share of the short side, in (0, 1].
        horizontal_flip, vertical_flip, colours: see ``RandomResizedCrop``.

    Raises:
        DataError: ``size`` or ``min_share`` is out of range.
    """

    def __init__(
        self,
        size: int,
        min_share: float = 0.125,
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        colours: bool = False,
    ) -> None:
        super().__init__(size, 1, horizontal_flip, vertical_flip, colours=colours)
        if not 0 < min_share <= 1:
            raise DataError(f"min_share is {min_share}; give a number above 0 and at most 1")
        self.min_share = min_share

    def _side(self, short_side: int, draw: float) -> int:
        smallest = max(self.size, self.min_share * short_side)
        if smallest >= short_side:
            return short_side
        return round(math.exp(math.log(smallest) + draw * math.log(short_side / smallest)))


def _path(draw: float, room: int, speed: float, frames: int) -> list[int]:
    """Where a window begins along one axis, frame by frame, in whole pixels.

    draw: in [0, 1), of all paths that fit. room: how far it can go. speed: pixels a frame, less
    where the window would leave the image.
    """
    most = room / max(frames - 1, 1)
    speed = max(-most, min(most, speed))
    way = [round(speed * t) for t in range(frames)]
    start = int(draw * (room - abs(way[-1]) + 1)) - min(way)
    return [start + step for step in way]


def _nine(generator: torch.Generator) -> list[float]:
    """In [0, 1). Always nine, so that switching a flip on leaves the squares as they were."""
    draws: list[float] = torch.rand(9, generator=generator, dtype=torch.float64).tolist()
    return draws


def centre_crop(pixels: Tensor, side: int) -> Tensor:
    """Return the central ``(..., min(H, side), min(W, side))`` of ``(..., H, W)``."""
    height, width = pixels.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return pixels[..., top : top + side, left : left + side]
