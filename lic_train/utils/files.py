"""Files written whole or not at all, and names that fit into one folder."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


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


@contextmanager
def written_whole(path: Path, make_folder: bool = True) -> Iterator[Path]:
    """Yield the name to write under; the file takes its place once the block ends without an error.

    A reader, or a run that is killed, never meets half a file. The name has the process's id in
    it, so two processes do not write into one file.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, make_folder: bool = True) -> None:
    """Write all or nothing, see :func:`written_whole`."""
    with written_whole(path, make_folder) as temporary:
        temporary.write_bytes(data)


def write_png(path: Path, pixels: Tensor, make_folder: bool = True) -> None:
    """Write uint8 ``(3, H, W)`` as an RGB PNG, all or nothing: an old file stays whole on failure.

    Raises:
        ValueError: another type or shape.
        DataError: the file cannot be written.
    """
    import torch
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
