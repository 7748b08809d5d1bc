"""Files written whole or not at all, and names that fit into one folder."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from torch import Tensor

from lic_train.errors import DataError


def file_label(name: str) -> str:
    """A name may hold the folder below the dataset's: keep the file in one folder all the same."""
    return name.replace("/", "_").replace(os.sep, "_")


def own_label(name: str, taken: dict[str, str], dataset: str) -> str:
    """``file_label(name)``, added to ``taken``, which says whose each label is.

    Raises:
        DataError: another image has it.
    """
    label = file_label(name)
    if label in taken:
        raise DataError(
            f"two images of {dataset}, {taken[label]} and {name}, would both be {label}_r0.lic: "
            "rename one"
        )
    taken[label] = name
    return label


def write_whole(path: Path, data: bytes, make_folder: bool = True) -> None:
    """Write all or nothing: a reader, or a run that is killed, never meets half a file."""
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_png(path: Path, pixels: Tensor, make_folder: bool = True) -> None:
    """Write uint8 ``(3, H, W)`` as an RGB PNG, all or nothing: an old file stays whole on failure.

    Raises:
        ValueError: another type or shape.
        DataError: the file cannot be written.
    """
    from PIL import Image

    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"expected uint8 (3, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG")
    try:
        write_whole(path, buffer.getvalue(), make_folder)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written ({reason}); check folder and disk") from error
