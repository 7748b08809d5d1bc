"""Rows and curves from figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lic_train.rd import curves as rd


@dataclass(frozen=True)
class Row:
    """A row that satisfies ``rd.Point``."""

    codec: str
    rate: int
    bpp: float
    psnr: float
    image: str = "a"
    dataset: str = "set"
    lmbda: float | None = None
    width: int = 16
    height: int = 16
    ms_ssim: float = math.nan
    encode_s: float = 0.0
    decode_s: float = 0.0


# CompressAI's published results of VTM on Kodak (8-bit RGB PSNR), its repository at 869a9f5,
# results/image/kodak: (bpp, dB).
VTM = [
    (0.048245, 26.1448), (0.112495, 28.4930), (0.245817, 31.1999), (0.490545, 34.2615),
    (0.874810, 37.4198), (1.430850, 40.4244), (2.324607, 43.5058), (3.632609, 46.5918),
]  # fmt: skip


def rows(codec: str, curve: list[tuple[float, float]], image: str = "a") -> list[Row]:
    return [Row(codec, i, b, q, image) for i, (b, q) in enumerate(curve)]


def curve(codec: str, points: list[tuple[float, float]]) -> rd.Curve:
    return rd.mean_curve(rows(codec, points), codec)
