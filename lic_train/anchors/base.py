"""What a conventional codec makes of a signal."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Coded(NamedTuple):
    """A signal through an anchor: the file, its pixels ``(..., 3, H, W)`` uint8, and seconds."""

    data: bytes
    pixels: Tensor
    encode_s: float
    decode_s: float
