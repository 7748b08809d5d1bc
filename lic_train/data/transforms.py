"""Crops: functions of an image and a random generator, and of nothing else."""

from __future__ import annotations

import itertools
import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lic_train.errors import DataError


class Crop(Protocol):
    """What the data module calls: uint8 (..., H, W) and a generator to uint8 (..., s, s).

    size: the side s in pixels; an image whose short side is below it is upscaled.
    window: top, left and side, in pixels, of the square that the call takes out of an image of this
        height and width, given a generator in the same state.
    """

    size: int

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor: ...

    def window(
        self, height: int, width: int, generator: torch.Generator
    ) -> tuple[int, int, int]: ...


class RandomResizedCrop:
    """A random square of the image at a random scale, as a `size` x `size` crop, maybe mirrored.

    The square's side is drawn log-uniformly from `size / max_scale` to `size / min_scale` pixels,
    at most the image's short side, and antialiased down to `size` (bicubic, on 8-bit samples).
    `min_scale=1` is a plain crop: its samples are those of the image. An image whose short side is
    below `size` is upscaled: its largest squares are resized to `size`. All frames of a clip are
    cropped alike, unless the crop pans.

    size: pixels, at least 1. min_scale, max_scale: 0 < min_scale <= max_scale <= 1.
    horizontal_flip, vertical_flip, transpose: flip left and right, top and bottom, or the diagonal,
    each with probability one half; all three give the eight orientations, which few photographs
    need. colours: other channel orders, contrast and brightness. pan: over the frames of a clip the
    square moves by whole pixels of the image at a steady speed, at most so many pixels of the crop
    a frame along each axis, slowly oftener than fast; it stays inside the image. Raises DataError
    for other values.
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
        """uint8 (..., 3, H, W) to uint8 (..., 3, size, size); draws nine numbers, or eleven."""
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
        """Top, left and side of the square that is taken: see `Crop`."""
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
    """A random square of the image, small or large, as a `size` x `size` thumbnail of it.

    The square's side is drawn log-uniformly from `min_share` of the image's short side to all of
    it, so that the thumbnails show whole scenes and single things at about the same sharpness. No
    square is smaller than `size`: an image of `size` x `size` is a thumbnail already and is taken
    as it is. Resampling, mirrors and refusals are those of `RandomResizedCrop`.
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
    """The central (C, min(H, side), min(W, side)) of (C, H, W)."""
    height, width = pixels.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return pixels[..., top : top + side, left : left + side]
