"""Rows and curves from figures."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from lic_train.rd import curves as rd
from lic_train.rd.points import RDPoint


def row(codec: str, rate: int, bpp: float, psnr: float, image: str = "a", **others: Any) -> RDPoint:
    """Of a 16 x 16 image, unless ``others`` say more."""
    point = RDPoint(
        *("set", image, codec, rate, None, 16, 16, round(bpp * 256 / 8), bpp, None, psnr),
        *(math.nan, 0.0, 0.0, "cpu"),
    )
    return dataclasses.replace(point, **others)


# CompressAI's published results of VTM on Kodak (8-bit RGB PSNR), its repository at 869a9f5,
# results/image/kodak: (bpp, dB).
VTM = [
    (0.048245, 26.1448), (0.112495, 28.4930), (0.245817, 31.1999), (0.490545, 34.2615),
    (0.874810, 37.4198), (1.430850, 40.4244), (2.324607, 43.5058), (3.632609, 46.5918),
]  # fmt: skip


def rows(codec: str, curve: list[tuple[float, float]], image: str = "a") -> list[RDPoint]:
    return [row(codec, i, b, q, image) for i, (b, q) in enumerate(curve)]


def curve(codec: str, points: list[tuple[float, float]]) -> rd.Curve:
    return rd.mean_curve(rows(codec, points), codec)
