"""Files written whole or not at all, and names that fit into one folder."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 200
"""Bytes of a label: file systems take 255, and suffixes follow."""
OUR_PNG = b"tEXtSoftware\0lic_train"
"""What tells a PNG file of :func:`write_png` from any other; among the first 256 bytes."""


def file_label(name: str) -> str:
    """What files of an image are called: its name without folders, shortened where it is too long.

    A shortened name ends in eight digits of its hash, so that two such names stay apart.
    """
    label = name.replace("/", "_").replace(os.sep, "_")
    if len(label.encode()) <= LONGEST:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{label.encode()[: LONGEST - 9].decode(errors='ignore')}~{digest}"


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
    from PIL.PngImagePlugin import PngInfo

    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"expected uint8 (3, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    buffer, about = io.BytesIO(), PngInfo()
    about.add_text("Software", "lic_train")
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.save(buffer, format="PNG", pnginfo=about)
    try:
        write_whole(path, buffer.getvalue(), make_folder)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written ({reason}); check folder and disk") from error
