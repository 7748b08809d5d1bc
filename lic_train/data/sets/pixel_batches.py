"""The batch files of ImageNet-32 and CIFAR hold small images; none of their code is run."""

from __future__ import annotations

import math
import pickle
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.data.io.listing import listing
from lic_train.data.sources import (
    ImageFolder,
    ImageSource,
    Split,
    checked,
    checked_limit,
    photographs,
)
from lic_train.errors import DataError

# Layout -> the batch files of each split, without the .npz that some have.
LAYOUTS: dict[str, dict[Split, list[str]]] = {
    "ImageNet-32": {"train": [f"train_data_batch_{i}" for i in range(1, 11)], "eval": ["val_data"]},
    "CIFAR-10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "eval": ["test_batch"]},
    "CIFAR-100": {"train": ["train"], "eval": ["test"]},
}
# All that a pickled batch of arrays refers to.
HARMLESS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
}


class PixelBatches(ImageSource):
    """The images of all batch files of a split, in their order.

    All of them are read on construction, before loader processes start. A 32x32 image takes 3072
    bytes of memory: 3.9 GB for the 1,281,167 of ImageNet-32. Names are ``<batch file>#<row>``.

    Args:
        root: the folder with the files of one of ``LAYOUTS``, pickled or as npz.
        split: "train" or "eval", the validation or test file.
        limit: keep only the first ``limit`` images; ``None``: all.

    Raises:
        DataError: files are missing, are not batches of images of one size, or hold anything but
            arrays, numbers, strings and containers of them; or an argument is out of range.
    """

    def __init__(self, root: str | Path, split: Split, limit: int | None = None) -> None:
        folder = Path(root).expanduser()
        files = batch_files(folder, checked(split))
        if not files:
            raise DataError(f"{folder}: {_layouts(split)}; found {listing(folder)}")
        if missing := [file.name for file in files if not file.is_file()]:
            have = len(files) - len(missing)
            raise DataError(f"{folder}: found {have} of {len(files)} batch files; no {missing[0]}")
        self._names = [file.stem for file in files]
        self._batches = [_images_of(file) for file in files]
        if len({images.shape[1:] for images in self._batches}) > 1:
            raise DataError(f"{folder}: the batch files hold images of different sizes")
        self._ends = list(accumulate(len(images) for images in self._batches))
        count = self._ends[-1]
        self._count = count if limit is None else min(count, checked_limit(limit))

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        batch, row = self._place(index)
        return f"{self._names[batch]}#{row}"

    def pixels(self, index: int) -> Tensor:
        batch, row = self._place(index)
        return self._batches[batch][row]

    def _place(self, index: int) -> tuple[int, int]:
        batch = bisect_right(self._ends, index)
        return batch, index - (self._ends[batch - 1] if batch else 0)


def thumbnail_images(
    root: str | Path | None,
    split: Split,
    eval_root: str | Path | None = None,
    eval_every: int = 10,
    limit: int | None = None,
    longest_side: int | None = None,
    cache_mb: float = 1024,
) -> ImageSource:
    """Return ``PixelBatches`` if the split's folder holds batch files, else images of photographs.

    Args:
        root: folder of batch files or photographs to train on; ``None``: the sample photographs.
        split: "train" or "eval".
        eval_root: the same for evaluation; ``None``: a part of ``root``.
        eval_every, limit, longest_side, cache_mb: see ``ImageFolder``.

    Raises:
        DataError: as ``PixelBatches`` and ``photographs``.
    """
    checked(split)
    place = eval_root if split == "eval" and eval_root is not None else root
    if place is not None and batch_files(Path(place).expanduser(), split):
        return PixelBatches(place, split, limit)
    options: dict[str, Any] = {"limit": limit, "longest_side": longest_side, "cache_mb": cache_mb}
    if (
        root is not None
        and eval_root is not None
        and batch_files(Path(eval_root).expanduser(), "eval")
    ):
        return ImageFolder(root, **options)  # beside a file of evaluation images: all of it
    return photographs(root, split, eval_root, eval_every, **options)


def batch_files(folder: Path, split: Split) -> list[Path]:
    """Return the batch files that a split should have, in the first layout of which one is found.

    Args:
        folder: where to look.
        split: "train" or "eval".

    Returns:
        The paths, some of which may be missing; empty if there is no batch file.
    """
    for files in LAYOUTS.values():
        for suffix in ("", ".npz"):
            paths = [folder / f"{file}{suffix}" for file in files[split]]
            if any(path.is_file() for path in paths):
                return paths
    return []


def _images_of(path: Path) -> Tensor:
    """uint8 (N, 3, s, s)."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                data = arrays["data"]
        else:
            with path.open("rb") as file:
                batch = _Arrays(file, encoding="bytes").load()
            data = batch["data"] if "data" in batch else batch[b"data"]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # pickle, zip and numpy each have their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: is no batch file of images ({reason}); copy it again") from error
    side = math.isqrt(data.shape[-1] // 3)
    if data.dtype != np.uint8 or data.ndim != 2 or 3 * side * side != data.shape[-1]:
        raise DataError(f"{path}: expected uint8 (N, 3 s s), found {data.dtype} {data.shape}")
    return torch.from_numpy(np.require(data, requirements="W")).view(-1, 3, side, side)


class _Arrays(pickle.Unpickler):
    """Unpickles arrays and refuses the name of anything else, so that no code of a file runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise DataError(f"refers to {module}.{name}, which a batch of images has no need of")
        return super().find_class(module, name)


def _layouts(split: Split) -> str:
    wanted = [f"{files[split][0]} ({layout})" for layout, files in LAYOUTS.items()]
    return f"expected {', '.join(wanted)}"
