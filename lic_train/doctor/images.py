"""Images a run would be fed: values, sizes, whether they decode, none in both sets."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from lic_train.codec.signal import MS_SSIM_MIN_SIDE
from lic_train.doctor.preflight import Finding, Preflight
from lic_train.errors import DataError

LOOKED_AT = 500
"""Images whose headers are read."""
DECODED, PATIENCE_S = 12, 10.0
"""Images of each set that are decoded whole at least, and for how long more of them are."""
INNER = 4
"""Positions a side of the coarsest latents from which on a quarter of them is not at a border."""


def input_range(p: Preflight) -> Iterator[Finding]:
    """Whether networks would see images in [0, 1]."""
    x: Tensor = p.batch.x
    low, high = x.min().item(), x.max().item()
    seen = f"{tuple(x.shape)}, {low:.2f} ... {high:.2f}"
    if not x.isfinite().all():
        yield Finding("input", f"{seen}: not all finite", "look at the data module's images")
    elif low < 0 or high > 1:
        yield Finding("input", f"{seen}: outside [0, 1]", "scale what the data module gives")
    elif high <= 2 / 255:
        yield Finding("input", f"{seen}: black, as if divided by 255 twice", "look at the images")
    elif (x.flatten(1).amax(1) == x.flatten(1).amin(1)).all():
        yield Finding("input", f"{seen}: every image is of one colour", "look at the images")
    else:
        yield Finding("input", seen)


def crops(p: Preflight) -> Iterator[Finding]:
    """Whether crops are cut from images or made up by enlarging and padding."""
    data, codec = p.experiment.data, p.experiment.module.codec
    side = int(p.batch.x.shape[-1])
    stride = getattr(codec, "stride", None)
    if isinstance(stride, int) and side % stride:
        padded = -(-side // stride) * stride
        share = 100 * (1 - (side / padded) ** 2)
        said = f"{side} pixels become {padded}: {share:.0f} % of what is trained on is padding"
        yield Finding("crops", said, f"data.crop_size={padded}")
    positions = side * getattr(data, "late_scale", 1) // (stride or 1)
    if isinstance(stride, int) and positions < INNER:
        said = f"{positions} x {positions} positions of the coarsest latents, most at a border: "
        said += "whole images, which have few there, will cost more than the loss says"
        scale = -(-INNER * stride // side)
        yield Finding("crops", said, f"data.late_scale={scale}, or data.crop_size={INNER * stride}")
    sides = [min(size) for size in _sizes(data.train_source)]
    small = sum(s < side for s in sides)
    if small > len(sides) / 10:
        said = f"{small} of {len(sides)} images are smaller than a crop of {side} and are enlarged"
        fix = f"data.crop_size={max(64, min(sides) // 64 * 64)}, or larger images"
        yield Finding("image sizes", said, fix)
    elif sides:
        said = f"short sides {min(sides)} ... {max(sides)} pixels for crops of {side}"
        yield Finding("image sizes", said)
    if str(p.cfg.loss.get("metric", "")) == "ms_ssim":
        smallest = min((min(size) for size in _sizes(data.eval_source)), default=0)
        if smallest < MS_SSIM_MIN_SIDE:
            said = f"one is {smallest} pixels, MS-SSIM needs {MS_SSIM_MIN_SIDE}"
            yield Finding("evaluation images", said, "larger ones, or loss=mse")


def readable(p: Preflight) -> Iterator[Finding]:
    """Whether images decode: of large sets, those spread over the list."""
    data, bad = p.experiment.data, []
    if not hasattr(data.train_source, "__len__"):
        yield Finding("images", f"a stream to train on, {len(data.eval_source)} to evaluate")
        return
    decoded, count = 0, len(data.train_source) + len(data.eval_source)
    for source in (data.eval_source, data.train_source):
        end = time.monotonic() + PATIENCE_S
        for number, index in enumerate(_spread(len(source))):
            if number >= DECODED and time.monotonic() > end:
                break
            decoded += 1
            try:
                source.pixels(index)
            except DataError as error:
                bad.append(str(error))
        bad += [f"{f}: is empty" for f in _files(source) if f.exists() and not f.stat().st_size]
    if bad:
        said = f"{len(set(bad))} cannot be read, e.g. {bad[0]}"
        yield Finding("images", said, "remove or replace them")
    else:
        said = f"{len(data.train_source)} to train on, {len(data.eval_source)} to evaluate"
        part = "" if decoded == count else f"; {decoded} of them were decoded, lic data check"
        yield Finding("images", f"{said}{part and part + ' decodes all'}")


def _spread(count: int) -> Iterator[int]:
    """Every index once, those that lie far apart first."""
    seen: set[int] = set()
    step = max(1, count // DECODED)
    while len(seen) < count:
        fresh = [i for i in range(0, count, step) if i not in seen]
        seen.update(fresh)
        yield from fresh
        step = max(1, step // 2)


def disjoint(p: Preflight) -> Iterator[Finding]:
    """Whether an evaluation image is a training image as well, under whatever name."""
    train, evaluated = (_files(s) for s in (p.experiment.data.train_source, _eval(p)))
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in train:
        by_size[path.stat().st_size].append(path)
    both = [
        path
        for path in evaluated
        if any(_same(path, other) for other in by_size[path.stat().st_size])
    ]
    if both:
        said = f"{len(both)} of {len(evaluated)} evaluation images are trained on: {both[0].name}"
        yield Finding("overlap", said, "remove them from data.root, or give another data.eval_root")


def _eval(p: Preflight) -> Any:
    source = p.experiment.data.eval_source
    return getattr(source, "source", source)  # of thumbnails, the photographs they are cut from


def _files(source: Any) -> list[Path]:
    """The files of a source that has some."""
    return [Path(path) for _, path in getattr(source, "files", [])]


def _sizes(source: Any) -> list[tuple[int, int]]:
    """Width and height from the headers; of a source without files, from a few images."""
    sizes = []
    for path in islice(_files(source), LOOKED_AT):
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (OSError, SyntaxError, ValueError):  # `readable` tells of it
            continue
    if not sizes and not _files(source) and hasattr(source, "__len__"):
        shapes = (source.pixels(i).shape for i in range(min(DECODED, len(source))))
        sizes = [(int(shape[-1]), int(shape[-2])) for shape in shapes]
    return sizes


def _same(a: Path, b: Path) -> bool:
    return a.samefile(b) or _digest(a) == _digest(b)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
