"""The files of a folder that are data: by kind, and without what this package wrote.

What is left out is said, with counts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lic_train.errors import DataError
from lic_train.utils.notices import counted, notice
from lic_train.utils.outputs import PARTS, RECORD, TABLE, is_output

IMAGE_EXTENSIONS = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".avif", ".jp2", ".j2k"),
    }
)
OWN_FILES = frozenset({RECORD, TABLE, "rd_summary.json", "rate_gap.csv", "anchors.json"})
SHOWN = 4
"""Kinds that a line names."""


def list_images(root: str | Path) -> list[Path]:
    """The image files below a folder.

    They are known by their extension in any case. Hidden files and folders are skipped; links to
    files are followed, links to folders are not. Folders that this package wrote (runs, sweeps,
    results) are no data; that they, files of other kinds and dangling links are left out is said
    on stderr, with counts.

    Args:
        root: the folder, searched recursively.

    Returns:
        Paths, sorted by their path relative to ``root``.

    Raises:
        DataError: ``root`` is missing, no folder, unreadable or without images.
    """
    return list_files(root, IMAGE_EXTENSIONS, "images")


def list_files(root: str | Path, extensions: frozenset[str], what: str) -> list[Path]:
    """As :func:`list_images`, of files with other extensions.

    Args:
        root: the folder.
        extensions: lower-case, with the dot.
        what: plural name of the files, for messages.

    Raises:
        DataError: as :func:`list_images`.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds the {what}")
    found: list[Path] = []
    others: Counter[str] = Counter()
    dangling = 0
    for path in _visible(root):
        if path.suffix.lower() not in extensions:
            others[path.suffix.lower() or path.name] += path.name not in OWN_FILES
        elif path.is_file():
            found.append(path)
        elif path.is_symlink() and not path.exists():
            dangling += 1
        else:
            others["what is no file"] += 1
    if not found:
        kinds = " ".join(sorted(extension[1:] for extension in extensions))
        raise DataError(f"{root}: holds no {what} ({kinds}); check the path")
    if number := others.total():
        kinds = ", ".join(f"{n} {kind}" for kind, n in others.most_common(SHOWN) if n)
        more = ", ..." * (len(+others) > SHOWN)
        notice(f"{root}: {counted(number, 'file')} of other kinds left out ({kinds}{more})")
    if dangling:
        notice(f"{root}: {counted(dangling, 'link')} to nothing left out")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _visible(root: Path) -> Iterator[Path]:
    """All files, hidden ones and results of this package excepted."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check permissions")

    results = []
    for name, subfolders, files in os.walk(root, onerror=fail):
        folder = Path(name)
        if folder != root and is_output(folder):
            results.append(folder.relative_to(root).as_posix())
            subfolders.clear()
            continue
        inside = PARTS if is_output(folder) else frozenset()
        subfolders[:] = [n for n in subfolders if not n.startswith(".") and n not in inside]
        yield from (folder / file for file in files if not file.startswith("."))
    if results:
        results.sort()
        named = ", ".join(results[:SHOWN]) + ", ..." * (len(results) > SHOWN)
        notice(f"{root}: {counted(len(results), 'folder')} of results left out ({named})")


def listing(folder: Path) -> str:
    """What a folder, if it is one, holds: the first names in it."""
    paths = folder.iterdir() if folder.is_dir() else []
    names = sorted(path.name + "/" * path.is_dir() for path in paths)
    return ", ".join(names[:8]) + ", ..." * (len(names) > 8) or "nothing"


def printable_name(path: Path) -> str:
    """A path with "/" that every file can hold: bytes that are no UTF-8 become ``\\xE9``."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
