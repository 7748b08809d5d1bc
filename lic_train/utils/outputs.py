"""Folders that this package writes carry a record, so that they are neither read as data nor lost.

A folder is ours if it holds a run, a sweep, a table of ours or the record that
:func:`claimed_output` leaves. Whatever else lies in the way of an output belongs to the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lic_train import __version__
from lic_train.errors import DataError
from lic_train.utils.files import write_whole

RECORD = "lic_train.json"
MARKS = (RECORD, "run.json", "sweep.json", "model.safetensors")
TABLE, HEADER = "rd_points.csv", b"dataset,image,codec,rate,"
PARTS = frozenset({"bitstreams", "checkpoints", "figures", "originals", "reconstructions", "live"})
"""Folders that we make inside a folder of ours."""


def is_output(folder: Path) -> bool:
    """Whether this package wrote the folder."""
    if any((folder / mark).is_file() for mark in MARKS):
        return True
    try:
        with (folder / TABLE).open("rb") as table:
            return table.read(len(HEADER)) == HEADER
    except OSError:
        return False


@contextmanager
def claimed_output(folder: Path, names: Sequence[str], force: bool = False) -> Iterator[None]:
    """Make a folder for results, with the record in it; where nothing follows, it is taken back.

    Args:
        folder: what the user gave, e.g. as ``--out``.
        names: files and folders that are about to be written into it.
        force: write even where something of these names is not ours.

    Raises:
        DataError: it is a file, cannot be made, or holds something of these names that this
            package did not write.
    """
    if folder.is_dir() and not is_output(folder) and not force:
        taken = [name for name in names if (folder / name).exists()]
        if taken:
            raise DataError(
                f"{folder} holds {taken[0]}, which lic_train did not write: give another folder, "
                "or --force to overwrite it"
            )
    made = not folder.exists()
    try:
        write_whole(folder / RECORD, (json.dumps({"lic_train": __version__}) + "\n").encode())
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{folder} is a file, not a folder: give another name") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror})") from None
    try:
        yield
    except BaseException:
        if made and [path.name for path in folder.iterdir()] == [RECORD]:
            (folder / RECORD).unlink()
            folder.rmdir()
        raise


def check_overwrite(out: Path, inputs: Sequence[Path], magic: bytes, force: bool = False) -> None:
    """Refuse to write a file over an input, or over a file that is not ours.

    Args:
        out: the file that is about to be written.
        inputs: what is read; never overwritten, not even with ``force``.
        magic: what files of this kind begin with where this package wrote them; empty: nothing
            tells whose a file is, so every one that exists is the user's.
        force: overwrite a file that is not ours.

    Raises:
        DataError: it would be overwritten.
    """
    if not out.exists():
        return
    for source in inputs:
        if source.exists() and out.samefile(source):
            raise DataError(f"{out} is the input itself: give another name for the output")
    if out.is_dir() or force or out.stat().st_size == 0:
        return
    with out.open("rb") as file:
        ours = bool(magic) and magic in file.read(256)
    if not ours:
        raise DataError(
            f"{out} exists and lic_train did not write it: give another name, or --force"
        )
