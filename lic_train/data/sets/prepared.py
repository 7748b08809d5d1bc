"""A prepared set is raw pixels in a few large files, of which a crop reads only its own rows."""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.data.sources import ImageFolder, ImageSource, Split, checked, first_of
from lic_train.errors import DataError

MANIFEST = "manifest.json"
FORMAT = 1  # of manifest and shards


class PreparedImages(ImageSource):
    """The images of a set that ``lic data prepare`` made.

    A shard holds the samples of its images one after another, uint8 ``(H, W, 3)``, and nothing
    else. It is mapped into memory: the operating system reads what is requested and shares it
    between all processes. If the set is larger than the memory, every crop is read from disk in
    whole rows, about one megabyte for 256 rows of 1536 pixels, so the disk should be an SSD. Tiles
    would need a quarter of that, but then an image would not be a view of its shard. Names are
    those of the source files.

    Args:
        root: the folder with ``manifest.json`` and the shards.
        part: "train" leaves out every ``eval_every``-th image, beginning with the first, and "eval"
            takes those; ``None``: all.
        eval_every: at least 2.
        limit: keep only the first ``limit`` images; ``None``: all.
        key: name of the setting for ``root``, for the error.

    Raises:
        DataError: no root is given, the manifest is missing or of another format, a shard is
            missing or not as long as the manifest says, no image is left, or an argument is out of
            range. The contents of shards are only checked by ``verify``.
    """

    def __init__(
        self,
        root: str | Path | None,
        part: Split | None = None,
        eval_every: int = 20,
        limit: int | None = None,
        key: str = "data.root",
    ) -> None:
        if root is None:
            raise DataError(f"no prepared set is given; add {key}=FOLDER, see lic data prepare")
        if eval_every < 2:
            raise DataError(f"eval_every is {eval_every}; give 2 or more")
        self.root = Path(root).expanduser()
        self.manifest = read_manifest(self.root)
        self._check_lengths()
        images = self.manifest["images"]
        if part is not None:
            held_out = checked(part) == "eval"
            images = [x for i, x in enumerate(images) if (i % eval_every == 0) == held_out]
        if not images:
            raise DataError(
                f"{self.root}: {self.manifest['counts']['kept']} images, none to {part}"
            )
        self.images: list[dict[str, Any]] = first_of(images, limit)
        self._shards: dict[int, mmap.mmap] = {}

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(self.images[index]["name"])

    def pixels(self, index: int) -> Tensor:
        image = self.images[index]
        start, height, width = image["offset"], image["height"], image["width"]
        shard = self._shard(image["shard"])
        rows = np.frombuffer(shard, np.uint8, height * width * 3, start)
        return torch.from_numpy(rows.reshape(height, width, 3)).permute(2, 0, 1)

    def expect(self, index: int, top: int, bottom: int) -> None:
        """Have the operating system read the rows ahead in one go.

        Without it, rows that are not in memory yet are read page by page, four times as slowly.
        """
        if hasattr(mmap, "MADV_WILLNEED"):
            image = self.images[index]
            start = image["offset"] + top * image["width"] * 3
            page = start - start % mmap.PAGESIZE
            length = (bottom - top) * image["width"] * 3 + start - page
            self._shard(image["shard"]).madvise(mmap.MADV_WILLNEED, page, length)

    def fingerprint(self, index: int) -> int:
        """Return the 64-bit perceptual hash that the manifest has of an image."""
        return int(self.images[index]["hash"], 16)

    def verify(self) -> None:
        """Read every shard and compare its SHA-256 with the manifest's.

        Raises:
            DataError: a shard differs; the text names the first one.
        """
        for shard in self.manifest["shards"]:
            digest = file_sha256(self.root / shard["file"])
            if digest != shard["sha256"]:
                raise DataError(
                    f"{self.root / shard['file']}: is not what {MANIFEST} says (SHA-256 "
                    f"{digest[:12]}, expected {shard['sha256'][:12]}); prepare the set again"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}  # a map cannot be pickled

    def _shard(self, number: int) -> mmap.mmap:
        if number not in self._shards:
            path = self.root / self.manifest["shards"][number]["file"]
            with path.open("rb") as file:
                # Writable in memory alone, as torch wants it: the file is never changed.
                self._shards[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._shards[number]

    def _check_lengths(self) -> None:
        for shard in self.manifest["shards"]:
            path, expected = self.root / shard["file"], shard["bytes"]
            if not path.is_file():
                raise DataError(f"{path}: is missing, though {MANIFEST} names it; prepare again")
            if path.stat().st_size != expected:
                found = path.stat().st_size
                fault = "is truncated" if found < expected else f"does not match {MANIFEST}"
                raise DataError(f"{path}: {fault} ({found} bytes, expected {expected})")
        ends = [x["offset"] + x["height"] * x["width"] * 3 for x in self.manifest["images"]]
        for image, end in zip(self.manifest["images"], ends, strict=True):
            if end > self.manifest["shards"][image["shard"]]["bytes"]:
                raise DataError(f"{self.root}: {image['name']} lies beyond its shard; {MANIFEST} "
                                "does not match the shards")  # fmt: skip


def prepared(
    root: str | Path | None,
    split: Split,
    eval_root: str | Path | None = None,
    eval_every: int = 20,
    limit: int | None = None,
    longest_side: int | None = None,
) -> ImageSource:
    """Return a prepared set for training, and for evaluation a part of it or a folder of images.

    Args:
        root: the prepared set, see ``PreparedImages``.
        split: "train" or "eval".
        eval_root: folder of evaluation images; ``None``: every ``eval_every``-th image of ``root``
            is for evaluation.
        eval_every: at least 2.
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side: of the images of ``eval_root``, see ``DecodedSource``.

    Raises:
        DataError: as ``PreparedImages`` and ``ImageFolder``.
    """
    if eval_root is None:
        return PreparedImages(root, checked(split), eval_every, limit)
    if checked(split) == "train":
        return PreparedImages(root, None, eval_every, limit)
    return ImageFolder(eval_root, limit=limit, longest_side=longest_side, key="data.eval_root")


def read_manifest(root: Path) -> dict[str, Any]:
    """Read the manifest of a prepared set.

    Args:
        root: folder of the set.

    Raises:
        DataError: the manifest is missing, unreadable or of another format.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{root}: holds no {MANIFEST}; make it with: lic data prepare SOURCE {root}"
        )
    try:
        manifest = json.loads(path.read_text())
        number = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no manifest ({error}); prepare the set again") from error
    if number != FORMAT:
        raise DataError(f"{path}: is of format {number}, this program reads {FORMAT}")
    return dict(manifest)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
