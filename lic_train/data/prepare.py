"""A folder of images is converted to shards of raw pixels.

Unusable images are dropped and counted; a run that was killed resumes and writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lic_train.data.fingerprint import perceptual_hash
from lic_train.data.io.images import read_image, resize
from lic_train.data.io.listing import list_images
from lic_train.data.sets.prepared import FORMAT, MANIFEST, file_sha256, read_manifest
from lic_train.data.sources import named
from lic_train.errors import DataError
from lic_train.utils.files import write_whole, written_whole

WORK = ".work"  # what is left of a run that did not end: finished parts, and what they are parts of
REASONS = ("corrupt", "small", "grey", "duplicate")


@dataclass(frozen=True)
class Settings:
    """How images are selected and converted; part of the manifest.

    Attributes:
        min_side: images whose shorter side, after downsampling, has fewer pixels are dropped; at
            least 1.
        downsample: factor by which both sides are reduced (Lanczos), at least 1. Downsampling
            removes JPEG artefacts.
        keep_grey: whether to keep images whose channels differ by ``grey_spread`` at most.
        keep_duplicates: whether to keep images with the same samples as an earlier one.
        grey_spread: difference between channels, in 8-bit levels.
        shard_images: number of image files that are read for one shard, at least 1.
        licence: a note on what the images may be used for.

    Raises:
        DataError: ``min_side``, ``downsample`` or ``shard_images`` is below 1.
    """

    min_side: int = 256
    downsample: float = 1.0
    keep_grey: bool = False
    keep_duplicates: bool = False
    grey_spread: int = 4
    shard_images: int = 64
    licence: str = "not stated"

    def __post_init__(self) -> None:
        object.__setattr__(self, "downsample", float(self.downsample))  # 1 and 1.0 are one setting
        if self.min_side < 1 or self.shard_images < 1 or not self.downsample >= 1:
            raise DataError("give min_side, shard_images and downsample of at least 1")


def prepare(
    source: str | Path,
    dest: str | Path,
    settings: Settings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write shards and, last of all, the manifest into ``dest``.

    The shards depend only on the images and the settings. The work is done in parts: those that a
    killed run had finished are kept, and ``dest`` holds a manifest only once everything is there.

    Args:
        source: folder of images, searched recursively.
        dest: a folder that is new or empty, or that an earlier run with the same images and
            settings has made.
        settings: how images are selected and converted.
        workers: number of processes; below 1 counts as 1.
        progress: called with the number of files done and the number of all files.

    Returns:
        The manifest.

    Raises:
        DataError: ``source`` is missing or has no images, none of them is kept, or ``dest`` holds
            something else.
    """
    source, dest = Path(source).expanduser(), Path(dest).expanduser()
    files = named(list_images(source), source)
    plan = {"format": FORMAT, "settings": asdict(settings), "files": _digest(files)}
    work = dest / WORK
    if (dest / MANIFEST).is_file():
        manifest = read_manifest(dest)
        if manifest["plan"] != _digest_of(plan):
            raise DataError(f"{dest}: holds a set of other images or settings; give another folder")
        shutil.rmtree(work, ignore_errors=True)
        return manifest
    _claim(dest, work, plan)
    size = settings.shard_images
    parts = [files[i : i + size] for i in range(0, len(files), size)]
    left = [i for i in range(len(parts)) if not _record(work, i).is_file()]
    done = len(files) - sum(len(parts[i]) for i in left)
    for i in _make_parts(work, parts, left, settings, workers):
        done += len(parts[i])
        if progress:
            progress(done, len(files))
    records = [json.loads(_record(work, i).read_text()) for i in range(len(parts))]
    body = _finish(dest, work, records, settings.keep_duplicates)
    counts = Counter(dropped["reason"] for dropped in body["dropped"])
    manifest = {
        "format": FORMAT,
        "source": source.resolve().name,
        "licence": settings.licence,
        "settings": asdict(settings),
        "plan": _digest_of(plan),
        "counts": {"seen": len(files), "kept": len(body["images"])}
        | {reason: counts[reason] for reason in REASONS},
        **body,
    }
    if not body["images"]:
        raise DataError(f"{source}: no image was kept: {manifest['counts']}")
    write_whole(dest / MANIFEST, json.dumps(manifest, indent=1).encode())
    shutil.rmtree(work)
    return manifest


def _digest(files: list[tuple[str, Path]]) -> str:
    """Of names and lengths: a source that changed between two runs would be half old, half new."""
    return _digest_of([(name, path.stat().st_size) for name, path in files])


def _digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _claim(dest: Path, work: Path, plan: dict[str, Any]) -> None:
    """Note in `work` what is being made; refuse a folder in which something else is."""
    if work.is_dir():
        if (work / "plan.json").is_file() and json.loads((work / "plan.json").read_text()) != plan:
            raise DataError(f"{dest}: holds an unfinished set of other images or settings; "
                            "delete it or give another folder")  # fmt: skip
    elif dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise DataError(f"{dest}: is not empty and no prepared set; give another folder")
    work.mkdir(parents=True, exist_ok=True)
    write_whole(work / "plan.json", json.dumps(plan).encode())


def _make_parts(
    work: Path,
    parts: list[list[tuple[str, Path]]],
    left: list[int],
    settings: Settings,
    workers: int,
) -> Iterator[int]:
    """Make the parts that are left, in any order; the number of each as it is done."""
    with ProcessPoolExecutor(max(1, workers), initializer=_begin_worker) as pool:
        futures = {pool.submit(_make_part, work, i, parts[i], settings): i for i in left}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """One thread; and no life after the parent, which may be killed at any time."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says it
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _record(work: Path, number: int) -> Path:
    """What is in a part; it is written last, so that with it the part is whole."""
    return work / f"part-{number:05}.json"


def _make_part(work: Path, number: int, files: list[tuple[str, Path]], settings: Settings) -> None:
    images: list[dict[str, Any]] = []
    dropped: list[dict[str, str]] = []
    target, digest, offset = _part(work, number), hashlib.sha256(), 0
    with written_whole(target) as whole, whole.open("wb") as shard:
        for name, path in files:
            try:
                pixels, note = _acceptable(path, settings)
            except _Dropped as drop:
                detail = drop.detail.removeprefix(f"{path}: ")
                dropped.append({"name": name, "reason": drop.reason, "detail": detail})
                continue
            data = pixels.permute(1, 2, 0).contiguous().numpy().tobytes()
            height, width = pixels.shape[-2:]
            sha256 = hashlib.sha256(f"{height}x{width}:".encode() + data).hexdigest()
            image = {"name": name, "offset": offset, "height": height, "width": width}
            image |= {"sha256": sha256, "hash": f"{perceptual_hash(pixels):016x}"}
            images.append(image | ({"note": note} if note else {}))
            shard.write(data)
            digest.update(data)
            offset += len(data)
    record = {"images": images, "dropped": dropped, "sha256": digest.hexdigest()}
    write_whole(_record(work, number), json.dumps(record).encode())


def _part(work: Path, number: int) -> Path:
    return work / f"part-{number:05}.bin"


class _Dropped(Exception):  # noqa: N818
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def _acceptable(path: Path, settings: Settings) -> tuple[Tensor, str]:
    """Pixels, uint8 (3, H, W), and the note of the reader; raises _Dropped."""
    try:
        pixels, note = read_image(path)
    except DataError as error:
        raise _Dropped("corrupt", str(error)) from None
    red, green, blue = pixels.contiguous()
    highest, lowest = red.maximum(green).maximum(blue), red.minimum(green).minimum(blue)
    spread = int((highest - lowest).max())
    if spread <= settings.grey_spread and not settings.keep_grey:
        raise _Dropped("grey", f"channels differ by {spread} of 255 at most")
    height, width = (max(1, round(side / settings.downsample)) for side in pixels.shape[-2:])
    if min(height, width) < settings.min_side:
        raise _Dropped("small", f"{width}x{height}")
    if settings.downsample > 1:
        pixels = resize(pixels, height, width)
    return pixels, note


def _finish(
    dest: Path, work: Path, records: list[dict[str, Any]], keep_duplicates: bool
) -> dict[str, Any]:
    """Parts become shards, in their order, without what an earlier part holds already."""
    seen: dict[str, str] = {}
    images: list[dict[str, Any]] = []
    dropped: list[dict[str, str]] = []
    shards: list[dict[str, Any]] = []
    for number, record in enumerate(records):
        dropped += record["dropped"]
        kept = []
        for image in record["images"]:
            first = seen.setdefault(image["sha256"], image["name"])
            if keep_duplicates or first == image["name"]:
                kept.append(image)
            else:
                detail = f"of {first}"
                dropped.append({"name": image["name"], "reason": "duplicate", "detail": detail})
        if not kept:
            continue
        shard = dest / f"shard-{len(shards):05}.bin"
        whole = len(kept) == len(record["images"])
        if not shard.is_file():
            if not whole:
                _compact(_part(work, number), kept)
            os.replace(_part(work, number), shard)
        offset = 0
        for image in kept:
            images.append({**image, "shard": len(shards), "offset": offset})
            offset += image["height"] * image["width"] * 3
        sha256 = record["sha256"] if whole else file_sha256(shard)
        shards.append({"file": shard.name, "bytes": offset, "sha256": sha256})
    dropped.sort(key=lambda drop: drop["name"])
    return {"shards": shards, "images": images, "dropped": dropped}


def _compact(part: Path, kept: list[dict[str, Any]]) -> None:
    """Rewrite a part with the images that are kept alone, all or nothing."""
    length = sum(image["height"] * image["width"] * 3 for image in kept)
    if part.stat().st_size == length:
        return  # done by a run that was killed right after
    with part.open("rb") as old, written_whole(part) as whole, whole.open("wb") as new:
        for image in kept:
            old.seek(image["offset"])
            new.write(old.read(image["height"] * image["width"] * 3))
