"""Signals: images, or several in order; what they are called, how large they are, as bytes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

MS_SSIM_MIN_SIDE = 161
"""Five scales halve the image four times and the last one must still hold an 11-pixel window:
smaller sides than ``(11 - 1) * 2**4 + 1`` leave MS-SSIM undefined."""


class Signal(Protocol):
    """An image with a name; what a dataset of images yields."""

    @property
    def name(self) -> str: ...

    @property
    def pixels(self) -> Tensor:
        """``(..., 3, H, W)``, ``uint8``: of an image, or of several in order."""
        ...


def to_uint8(x: Tensor) -> Tensor:
    """Pixels as a file stores them: clamped to [0, 1], times 255, rounded half to even.

    Args:
        x: any shape, floating point, nominally [0, 1].

    Returns:
        Same shape, ``uint8``.

    Raises:
        ValueError: ``x`` is not floating point; integers would be scaled twice.
    """
    if not x.is_floating_point():
        raise ValueError(f"expected floating point pixels in [0, 1], got {x.dtype}")
    return x.float().clamp(0, 1).mul(255).round().to(torch.uint8)


def num_images(x: Tensor) -> int:
    """Images in ``(..., C, H, W)``: 1 for an image without dimensions before."""
    return x.shape[:-3].numel()


def num_pixels(x: Tensor) -> int:
    """Pixels in ``(..., C, H, W)``, of all images together; channels do not count."""
    return num_images(x) * x.shape[-2] * x.shape[-1]
