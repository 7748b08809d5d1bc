"""Conventional codecs on the same images, as rows of the same kind as a learned codec's.

A file here is the encoded buffer itself: writing it to disk would change neither its length nor
its pixels.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from lic_train import metrics
from lic_train.evaluation import RDPoint, Signal


@dataclass(frozen=True)
class Anchor:
    """One codec that Pillow writes.

    Args:
        name: what the rows say in ``codec``.
        format: Pillow's name of the file format.
        settings: keyword arguments of ``Image.save`` at a quality.
        qualities: the ladder, coarse to fine.
    """

    name: str
    format: str
    settings: Callable[[int], dict[str, Any]]
    qualities: tuple[int, ...]

    def describe(self) -> dict[str, str]:
        """How its numbers were made, for the report: settings and versions."""
        from PIL import features

        library = {"JPEG": "libjpeg_turbo", "WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
        version = features.version(library[self.format]) if self.format in library else None
        low, high = self.settings(self.qualities[0]), self.settings(self.qualities[-1])
        fixed = {key: value for key, value in low.items() if high[key] == value}
        return {
            "codec": self.name,
            "pillow": PIL.__version__,
            "library": f"{library.get(self.format, self.format)} {version or 'unknown'}",
            "settings": ", ".join(f"{k}={v}" for k, v in fixed.items()),
            "qualities": ", ".join(map(str, self.qualities)),
        }


class Coded(NamedTuple):
    """An image through an anchor: the file, its pixels ``(3, H, W)`` uint8, and seconds."""

    data: bytes
    pixels: Tensor
    encode_s: float
    decode_s: float


# The fine steps at the bottom let the curve reach the rates at which learned codecs are compared.
# JPEG's quality 1 is left out: its tables saturate and it codes as 2 does.
LADDER = (2, 3, 4, 5, 6, 8, *range(10, 100, 5))

JPEG = Anchor(
    "jpeg", "JPEG", lambda q: {"quality": q, "subsampling": "4:2:0", "optimize": True}, LADDER
)
WEBP = Anchor("webp", "WEBP", lambda q: {"quality": q, "method": 6}, LADDER)
JPEG2000 = Anchor(
    "jpeg2000",
    "JPEG2000",
    lambda q: {"quality_mode": "dB", "quality_layers": [q], "irreversible": True, "mct": 1},
    tuple(range(20, 50, 2)),
)
AVIF = Anchor("avif", "AVIF", lambda q: {"quality": q, "subsampling": "4:4:4", "speed": 4}, LADDER)
ANCHORS = {anchor.name: anchor for anchor in (JPEG, WEBP, JPEG2000, AVIF)}


def code(anchor: Anchor, pixels: Tensor, quality: int) -> Coded:
    """Encode and decode one image.

    Args:
        anchor: the codec.
        pixels: ``(3, H, W)``, ``uint8``.
        quality: in the anchor's own units.
    """
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    buffer = io.BytesIO()
    start = time.perf_counter()
    image.save(buffer, format=anchor.format, **anchor.settings(quality))
    middle = time.perf_counter()
    decoded = np.array(Image.open(buffer).convert("RGB"))
    decode_s = time.perf_counter() - middle
    tensor = torch.from_numpy(decoded).permute(2, 0, 1).contiguous()
    return Coded(buffer.getvalue(), tensor, middle - start, decode_s)


def anchor_points(
    anchor: Anchor,
    signals: Iterable[Signal],
    dataset: str,
    qualities: Sequence[int] | None = None,
    progress: Callable[[RDPoint], None] | None = None,
) -> list[RDPoint]:
    """One row per signal and quality; ``rate`` is the quality, nothing is estimated.

    Args:
        anchor: the codec.
        signals: images with a ``name`` and ``(3, H, W)`` uint8 ``pixels``.
        dataset: what the rows say in ``dataset``.
        qualities: instead of the anchor's ladder.
        progress: called with each row as it is measured.
    """
    points: list[RDPoint] = []
    for signal in signals:
        height, width = signal.pixels.shape[-2:]
        if not points:
            code(anchor, signal.pixels, anchor.qualities[0])  # loads the library, untimed
        for quality in qualities or anchor.qualities:
            coded = code(anchor, signal.pixels, quality)
            point = RDPoint(
                dataset=dataset,
                image=signal.name,
                codec=anchor.name,
                rate=quality,
                lmbda=None,
                width=width,
                height=height,
                bytes=len(coded.data),
                bpp=metrics.bpp(len(coded.data), width, height),
                bpp_estimated=None,
                psnr=metrics.psnr(coded.pixels, signal.pixels),
                ms_ssim=metrics.ms_ssim(coded.pixels, signal.pixels),
                encode_s=coded.encode_s,
                decode_s=coded.decode_s,
                device="cpu",
            )
            points.append(point)
            if progress:
                progress(point)
    return points


def jpeg_points(
    signals: Iterable[Signal], dataset: str, qualities: Sequence[int] | None = None
) -> list[RDPoint]:
    """JPEG rows (4:2:0, optimised Huffman tables): the anchor that every run reports."""
    return anchor_points(JPEG, signals, dataset, qualities)
