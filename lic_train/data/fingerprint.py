"""Perceptual hashes: images that look alike differ in few bits, whatever their size or coding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

from lic_train.data.sources import ImageSource
from lic_train.errors import DataError

SIDE, LOW = 32, 8  # pixels of the thumbnail, frequencies a side that make the 64 bits
NEAR = 8  # bits: a recompressed or rescaled copy differs in fewer, another photograph in 20 to 44
ALIKE = 0.95  # correlation of the thumbnails of a true copy


class Leak(NamedTuple):
    """An evaluation image that is also shown by a training image.

    Attributes:
        held_out: name of the evaluation image.
        train: name of the training image.
        correlation: of their thumbnails, from ``ALIKE`` to 1.
    """

    held_out: str
    train: str
    correlation: float


def thumbnail(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Return the luma thumbnail of an image, or of the first frame of a clip.

    Args:
        pixels: uint8 ``(3, H, W)`` or ``(T, 3, H, W)``.

    Returns:
        float64 ``(32, 32)`` in [0, 255].
    """
    frame = pixels[0] if pixels.ndim > 3 else pixels
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).convert("L")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)


def perceptual_hash(pixels: Tensor) -> int:
    """Return the 64-bit perceptual hash of an image, or of the first frame of a clip.

    The bits tell which of the 8x8 lowest DCT frequencies of the thumbnail exceed their median.

    Args:
        pixels: uint8 ``(3, H, W)`` or ``(T, 3, H, W)``.
    """
    return _hash(thumbnail(pixels))


def _hash(grey: np.ndarray[Any, Any]) -> int:
    low = dctn(grey, norm="ortho")[:LOW, :LOW].flatten()
    bits = low > np.median(low[1:])  # the mean brightness says nothing
    return int("".join("1" if bit else "0" for bit in bits), 2)


def hash_of(source: ImageSource, index: int) -> int:
    """Return the perceptual hash of an image, as its source has stored it or else computed.

    Raises:
        DataError: the image must be decoded for it and is unreadable.
    """
    at_hand = getattr(source, "fingerprint", None)
    return int(at_hand(index)) if at_hand else perceptual_hash(source.pixels(index))


def leaks(
    train: ImageSource, hashes: Sequence[int], held_out: ImageSource, order: Iterable[int]
) -> list[Leak]:
    """Find evaluation images that are also training images.

    They are found even if mirrored, rescaled or recompressed, but not if one is a crop of the
    other. Where two hashes differ in few bits, the thumbnails are compared.

    Args:
        train: the training images.
        hashes: their perceptual hashes, in the same order.
        held_out: the evaluation images.
        order: indices of the evaluation images to look at; an iterable that shows progress will do.

    Returns:
        One leak per pair of an evaluation and a training image. Training images that must be
        decoded for the comparison and are unreadable are left out.

    Raises:
        DataError: an evaluation image is unreadable.
    """
    known = np.array(hashes, dtype=np.uint64)
    found = []
    for index in order:
        grey = thumbnail(held_out.pixels(index))
        candidates: dict[int, Any] = {}
        for view in (grey, grey[:, ::-1]):
            differing = _count_bits(known ^ np.uint64(_hash(view)))
            candidates |= {int(i): view for i in np.flatnonzero(differing <= NEAR)}
        for i, view in candidates.items():
            try:
                other = thumbnail(train.pixels(i))
            except DataError:
                continue  # said already, by whoever hashed it
            if (correlation := _correlation(view, other)) >= ALIKE:
                found.append(Leak(held_out.name(index), train.name(i), correlation))
    return found


def _count_bits(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.unpackbits(numbers.view(np.uint8).reshape(-1, 8), axis=1).sum(1)


def _correlation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Of two thumbnails; 1 for two without any detail."""
    x, y = torch.from_numpy(a - a.mean()), torch.from_numpy(b - b.mean())
    norm = float(x.norm() * y.norm())
    return float((x * y).sum()) / norm if norm > 0 else float(torch.equal(x, y))
