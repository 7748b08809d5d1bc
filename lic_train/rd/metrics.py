"""Quality and rate of one decoded signal: 8-bit pixels and byte counts in, plain numbers out.

Of signals with more dimensions than an image's ``(C, H, W)`` each value is the mean over images.

Every distortion here takes ``uint8``. A float reconstruction that is 0.3/255 off is, once saved,
the original itself; measuring it before rounding compares it with 8-bit anchors unfairly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lic_train.codec.signal import MS_SSIM_MIN_SIDE

SSIM_MIN_SIDE = 11


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio of two 8-bit signals in dB, one MSE over all of (C, H, W).

    Args:
        a, b: ``(..., C, H, W)``, ``uint8``.

    Returns:
        ``10 log10(255^2 / MSE)`` in dB; ``inf`` when images are equal.

    Raises:
        ValueError: the images are not ``uint8`` or differ in shape.
    """
    _check(a, b)
    mse = (_images(a).double() - _images(b).double()).square().mean(dim=(1, 2, 3)).tolist()
    values = [10 * math.log10(255**2 / e) if e else math.inf for e in mse]
    return sum(values) / len(values)


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, K = 0.01, 0.03.

    Each of R, G and B by itself, windows that lie within the image only, then the mean of all.

    Args:
        a, b: ``(..., C, H, W)``, ``uint8``.

    Returns:
        In [-1, 1], 1 when equal; NaN when the smaller side has fewer than ``SSIM_MIN_SIDE`` pixels.

    Raises:
        ValueError: the images are not ``uint8`` or differ in shape.
    """
    _check(a, b)
    if min(a.shape[-2:]) < SSIM_MIN_SIDE:
        return math.nan
    from pytorch_msssim import ssim as of_batches

    # In float64, as the variances of flat windows are differences of large numbers.
    return float(of_batches(_images(a).double(), _images(b).double(), data_range=255).item())


def ms_ssim(a: Tensor, b: Tensor) -> float:
    """Multi-scale structural similarity (Wang et al. 2003, 5 scales, 11-pixel Gaussian window).

    Args:
        a, b: ``(..., C, H, W)``, ``uint8``.

    Returns:
        In [0, 1], 1 when equal; NaN when the smaller side has fewer than ``MS_SSIM_MIN_SIDE``
        pixels.

    Raises:
        ValueError: the images are not ``uint8`` or differ in shape.
    """
    _check(a, b)
    if min(a.shape[-2:]) < MS_SSIM_MIN_SIDE:
        return math.nan
    from pytorch_msssim import ms_ssim as of_batches

    # pytorch_msssim's default range is 255 and its default type whatever comes in: say both.
    value = of_batches(_images(a).float(), _images(b).float(), data_range=255)
    return float(value.item())


def ms_ssim_db(value: float) -> float:
    """MS-SSIM on the scale figures use, ``-10 log10(1 - value)`` in dB; NaN stays NaN, 1 is inf."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def bpp(num_bytes: int, width: int, height: int, images: int = 1) -> float:
    """Bits per pixel of a file of ``num_bytes`` for ``images`` of ``width x height`` true ones."""
    return 8 * num_bytes / (width * height * images)


def _images(pixels: Tensor) -> Tensor:
    """``(..., C, H, W)`` as ``(images, C, H, W)``."""
    return pixels.reshape(-1, *pixels.shape[-3:])


def _check(a: Tensor, b: Tensor) -> None:
    if a.dtype != torch.uint8 or b.dtype != torch.uint8:
        raise ValueError(f"expected uint8 images (see to_uint8), got {a.dtype} and {b.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"images differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
