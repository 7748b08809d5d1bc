"""Vimeo-90k is read as unpacked: lists of sequences, and a folder of numbered frames for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lic_train.data.io.listing import listing
from lic_train.data.sources import ImageFiles, Split, checked, first_of, given_folder
from lic_train.errors import DataError

# Kind of sequence -> prefix of its lists, frames.
KINDS = {"septuplet": ("sep", 7), "triplet": ("tri", 3)}
WHERE = "http://toflow.csail.mit.edu"


class VimeoFrames(ImageFiles):
    """Single frames of Vimeo-90k as images (Xue et al., arXiv:1711.09078), 448x256 pixels.

    Names are e.g. ``00001/0001/im4.png``.

    Args:
        root: the folder with ``sequences`` and ``sep_trainlist.txt`` (or ``tri_trainlist.txt``).
        split: the published one; "eval" is the test list.
        frame: which frame of each sequence to use, from 1; ``None``: all of them.
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: an argument is out of range, or the folder has another layout; the text then says
            what was expected and what was found.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: Split,
        frame: int | None = None,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
    ) -> None:
        folders = sequence_folders(root, split, list(KINDS))
        count = frames_per_sequence(folders[0][1])
        if frame is not None and not 1 <= frame <= count:
            raise DataError(f"frame is {frame}; give 1 to {count}, or null for all")
        numbers = range(1, count + 1) if frame is None else [frame]
        files = [(f"im{n}.png", name, folder) for name, folder in folders for n in numbers]
        named = [(f"{name}/{file}", folder / file) for file, name, folder in files]
        super().__init__(first_of(named, limit), longest_side, cache_mb)


def sequence_folders(
    root: str | Path | None, split: Split, kinds: Sequence[str]
) -> list[tuple[str, Path]]:
    """Return name and folder of every sequence in the published list of a split.

    Only the first sequence is checked: others that are missing cause an error when they are read.

    Args:
        root: the folder of the set.
        split: "train", or "eval" for the test list.
        kinds: which of ``KINDS`` the folder may hold.

    Raises:
        DataError: no folder is given, ``split`` is unknown, or the folder has another layout.
    """
    layout = " or ".join(f"{KINDS[kind][0]}_trainlist.txt" for kind in kinds)
    advice = f"expected sequences/00001/0001/im1.png and {layout}, as unpacked from {WHERE}"
    folder = given_folder(root, "data.root", "Vimeo-90k", advice)
    for kind in kinds:
        prefix, count = KINDS[kind]
        where = folder / f"vimeo_{kind}" if (folder / f"vimeo_{kind}").is_dir() else folder
        part = {"train": "train", "eval": "test"}[checked(split)]
        listed = where / f"{prefix}_{part}list.txt"
        if listed.is_file():
            names = listed.read_text().split()
            if not names:
                raise DataError(f"{listed}: lists no sequence")
            first = where / "sequences" / names[0]
            if not first.is_dir() or frames_per_sequence(first) != count:
                wanted = f"expected im1.png to im{count}.png"
                raise DataError(f"{first}: {wanted}, found {listing(first)}")
            return [(name, where / "sequences" / name) for name in names]
    raise DataError(f"{folder}: {advice}; found {listing(folder)}")


def frames_per_sequence(folder: Path) -> int:
    """Return how many ``im<number>.png`` files a folder has."""
    return len(list(folder.glob("im*.png")))
