"""The same detail out of what every run made of an image, pixel for pixel, for a page to hold."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lic_train.figures.curves import most_detail
from lic_train.report.section import Section, point_names
from lic_train.report.series import Series

WIDTH, HEIGHT = 208, 156
"""Pixels of a crop."""
IMAGES, POINTS = 3, 4
"""At most so many images, and operating points of a codec, are shown: a page is to stay small."""


class Crop(NamedTuple):
    """One picture and what stands below it."""

    title: str
    caption: str
    data: str
    """A lossless WebP as a data URI."""


def crops(section: Section) -> dict[str, list[Crop]]:
    """Of the first images that runs kept pictures of: the original, then every codec's points.

    The detail is where the first picture has most of it. Layers of other sizes have no place here.
    """
    shown: dict[str, list[Crop]] = {}
    for image, size in section.images.items():
        if len(shown) == IMAGES:
            break
        runs = [run for s in section.codecs for run in s.runs]
        originals = [p for run in runs if (p := run.picture("originals", image))]
        pictures = [("original", f"{size[0]}x{size[1]}", path) for path in originals[:1]]
        for codec in section.codecs:
            pictures += _of(codec, section, image)
        if found := [(t, c, pixels) for t, c, path in pictures if (pixels := _read(path, size))]:
            top, left, _ = most_detail(np.asarray(found[0][2]))
            left, top = min(left, max(size[0] - WIDTH, 0)), min(top, max(size[1] - HEIGHT, 0))
            box = (left, top, min(left + WIDTH, size[0]), min(top + HEIGHT, size[1]))
            shown[image] = [Crop(t, c, _uri(pixels.crop(box))) for t, c, pixels in found]
    return shown


def _of(codec: Series, section: Section, image: str) -> list[tuple[str, str, Path]]:
    curve = section.curves[codec.label]
    count = len(curve.bpp)
    names = point_names(curve)
    every = sorted({round(k * (count - 1) / max(POINTS - 1, 1)) for k in range(POINTS)})
    found = []
    for i in every if count > POINTS else range(count):
        run = codec.of_lmbda[curve.lmbda[i]]
        path = run.picture("reconstructions", image, curve.rate[i])
        row = next(
            p
            for p in codec.points
            if (p.image, p.lmbda, p.rate) == (image, curve.lmbda[i], curve.rate[i])
        )
        if path:
            caption = f"{row.bpp:.3f} bpp, {row.psnr:.2f} dB"
            found.append((f"{codec.label} {names[i]}".strip(), caption, path))
    return found


def _read(path: Path, size: tuple[int, int]) -> Image.Image | None:
    """The picture, if it is one of this size; a run may have been cut short."""
    try:
        picture = Image.open(path).convert("RGB")
    except OSError:
        return None
    return picture if picture.size == size else None


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=True, quality=50)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
