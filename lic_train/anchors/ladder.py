"""Anchors over their ladders of qualities, as rows: in parallel, and never measured twice.

What an anchor makes of an image depends on the pixels, its version and its settings alone, so a
result is kept under a hash of all three (and of this package's version, which measures it).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lic_train import __version__
from lic_train.anchors.base import Anchor
from lic_train.anchors.payload import payload_bytes
from lic_train.codec.signal import Signal, num_images
from lic_train.errors import DataError
from lic_train.rd import metrics
from lic_train.rd.points import RDPoint
from lic_train.utils.files import write_whole

_GREY = torch.full((3, 64, 64), 128, dtype=torch.uint8)
MEASURED = ("bytes", "psnr", "ms_ssim", "encode_s", "decode_s")


def cache_folder() -> Path:
    """Where results are kept between runs: ``$LIC_CACHE``, else the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("LIC_CACHE") or home / "lic_train") / "anchors"


def anchor_rows(
    anchors: Sequence[Anchor],
    signals: Iterable[Signal],
    dataset: str,
    *,
    jobs: int | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[RDPoint], dict[str, str]]:
    """One row per anchor, signal and quality; ``rate`` is the quality, nothing is estimated.

    Seconds are of one of ``jobs`` threads that may disturb each other, and of the first time where
    a result was kept: to compare timings take ``jobs=1`` and no cache.

    Args:
        anchors: which codecs.
        signals: images with a ``name`` and ``(3, H, W)`` uint8 ``pixels``.
        dataset: what the rows say in ``dataset``.
        jobs: codings at a time; ``None``: as many as there are cores.
        cache: folder of results kept; ``None``: none.
        progress: called with an image's name when it is done.

    Returns:
        Rows by anchor, image and quality; and by its name why an anchor is absent. One that
        cannot code one of the images is absent too: its means would be of other images.

    Raises:
        DataError: there are no images.
    """
    missing = {anchor.name: why for anchor in anchors if (why := anchor.absent())}
    rows: dict[str, list[RDPoint]] = {a.name: [] for a in anchors if a.name not in missing}
    known = {anchor.name: anchor for anchor in anchors}
    for name in rows:
        known[name].code(_GREY, known[name].qualities[0])  # loads the library, untimed
    empty = True
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        for signal in signals:  # one at a time in memory
            empty = False
            kept = {n: _Kept(known[n], signal.pixels, cache) for n in rows if n not in missing}
            tasks = [(kept[name], quality) for name in kept for quality in known[name].qualities]
            for (own, quality), result in zip(tasks, pool.map(_measured, tasks), strict=True):
                name = own.anchor.name
                if isinstance(result, str):
                    missing[name] = f"{result}: {signal.name}"
                else:
                    rows[name].append(_row(result, own.anchor, quality, signal, dataset))
            for own in kept.values():
                own.save()
            if progress:
                progress(signal.name)
    if empty:
        raise DataError(f"there are no images in {dataset}: check its folder")
    return [p for name in rows if name not in missing for p in rows[name]], missing


def write_record(anchors: Sequence[Anchor], missing: dict[str, str], path: Path) -> None:
    """Write how the numbers of ``anchors`` were made, and why some have none, as JSON."""
    record = {
        "anchors": [
            {**anchor.describe(), "header_bytes": _header_bytes(anchor)}
            for anchor in anchors
            if anchor.name not in missing
        ],
        "absent": missing,
        "lic_train": __version__,
    }
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode())


def _header_bytes(anchor: Anchor) -> int | None:
    """Bytes of a small file that are not coded pixels, ``None`` where they cannot be told.

    They are counted like all others, and at low rates they are no trifle: a HEIF container is
    longer than the whole header of BPG, which holds the same stream.
    """
    data = anchor.code(_GREY, anchor.qualities[0]).data
    try:
        return len(data) - payload_bytes(data)
    except DataError:
        return None


class _Kept:
    """Results of one anchor on one image, in memory and in a file of the cache."""

    def __init__(self, anchor: Anchor, pixels: Tensor, folder: Path | None) -> None:
        self.anchor, self.pixels = anchor, pixels
        made_by = [anchor.describe()[key] for key in ("codec", "through", "library")]
        key = hashlib.sha256(json.dumps([*made_by, __version__, list(pixels.shape)]).encode())
        key.update(pixels.contiguous().numpy().tobytes())
        self._path = folder / anchor.name / f"{key.hexdigest()[:32]}.json" if folder else None
        self._results: dict[str, dict[str, Any]] = {}
        self._new = False
        if self._path:
            # None yet, or damaged: measured again.
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                kept = json.loads(self._path.read_text())
                self._results = {k: _believable(v) for k, v in kept.items()}

    def at(self, quality: int) -> dict[str, Any]:
        """The columns of ``MEASURED`` at a quality, measured at the first call."""
        settings = json.dumps(self.anchor.settings(quality), sort_keys=True)
        if settings not in self._results:
            coded = self.anchor.code(self.pixels, quality)
            self._results[settings] = {
                "bytes": len(coded.data),
                "psnr": metrics.psnr(coded.pixels, self.pixels),
                "ms_ssim": metrics.ms_ssim(coded.pixels, self.pixels),
                "encode_s": coded.encode_s,
                "decode_s": coded.decode_s,
            }
            self._new = True
        return self._results[settings]

    def save(self) -> None:
        """Keep what is new; a cache that cannot be written only costs time."""
        if self._path and self._new:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_whole(self._path, json.dumps(self._results).encode())


def _believable(kept: dict[str, Any]) -> dict[str, Any]:
    """What a cache says of one file, if it can be: another user may have written it.

    Raises:
        ValueError, TypeError, KeyError: it cannot.
    """
    found = {name: kept[name] for name in MEASURED}
    if not isinstance(found["bytes"], int) or isinstance(found["bytes"], bool):
        raise TypeError
    if found["bytes"] < 1 or any(not isinstance(v, int | float) or v < 0 for v in found.values()):
        raise ValueError
    return found


def _measured(task: tuple[_Kept, int]) -> dict[str, Any] | str:
    try:
        return task[0].at(task[1])
    except DataError as error:
        return str(error)


def _row(
    measured: dict[str, Any],
    anchor: Anchor,
    quality: int,
    signal: Signal,
    dataset: str,
) -> RDPoint:
    height, width = signal.pixels.shape[-2:]
    return RDPoint(
        dataset=dataset,
        image=signal.name,
        codec=anchor.name,
        rate=quality,
        lmbda=None,
        width=width,
        height=height,
        bpp=metrics.bpp(measured["bytes"], width, height, num_images(signal.pixels)),
        bpp_estimated=None,
        device="cpu",
        **measured,
    )
