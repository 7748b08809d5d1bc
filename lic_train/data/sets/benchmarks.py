"""The published photographs of this field are read in their original layout; others are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from PIL import Image

from lic_train.data.io.listing import list_images, listing
from lic_train.data.sources import ImageFiles, first_of, given_folder, named
from lic_train.errors import DataError

Kind = Literal["professional", "mobile"]
# CLIC 2020: images of each archive as published.
CLIC_COUNTS = {
    "train": {"professional": 585, "mobile": 1048},
    "valid": {"professional": 41, "mobile": 61},
    "test": {"professional": 250, "mobile": 178},
}


class Kodak(ImageFiles):
    """The 24 Kodak images, 768x512 or 512x768 pixels.

    Args:
        root: the folder with ``kodim01.png`` to ``kodim24.png``, or one that has them in a
            subfolder ``kodak``.
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.
        key: name of the setting for ``root``, for the error.

    Raises:
        DataError: no root is given, it does not exist, ``limit`` or ``longest_side`` is below 1, or
            one of the images is missing or has another size. Cropped and rescaled copies are in
            circulation, and results on them cannot be compared.
    """

    def __init__(
        self,
        root: str | Path | None,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
        key: str = "data.root",
    ) -> None:
        advice = "expected kodim01.png to kodim24.png, from https://r0k.us/graphics/kodak"
        folder = given_folder(root, key, "the Kodak images", advice)
        if (folder / "kodak").is_dir():
            folder = folder / "kodak"
        paths = [folder / f"kodim{number:02}.png" for number in range(1, 25)]
        if missing := [path.name for path in paths if not path.is_file()]:
            found = f"{24 - len(missing)} of 24 (no {missing[0]})" if len(missing) < 24 else ""
            raise DataError(f"{folder}: {advice}; found {found or listing(folder)}")
        for path in paths:
            try:
                with Image.open(path) as image:
                    width, height = image.size
            except OSError:
                continue  # whoever reads it says what it is
            if {width, height} != {512, 768}:
                raise DataError(f"{path}: expected 768x512 or 512x768, found {width}x{height}")
        super().__init__(named(first_of(paths, limit), folder), longest_side, cache_mb)


class Clic(ImageFiles):
    """The photographs of CLIC 2020 (Toderici et al.), professional and mobile.

    Args:
        root: the folder where the archives were unpacked. It holds ``train``, ``valid`` and
            ``test``, or folders such as ``professional_train_2020`` or ``CLIC2020Mobile_test``,
            each with images at any depth.
        split: "train" (585 professional, 1048 mobile), "valid" (41, 61) or "test" (250, 178).
        kind: "professional" or "mobile", where the names of folders tell them apart; ``None``:
            both.
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.
        key: name of the setting for ``root``, for the error.

    Raises:
        DataError: no root is given, it does not exist, an argument is out of range, or the split
            has no image; the text then says what was expected and what was found.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: Literal["train", "valid", "test"],
        kind: Kind | None = None,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
        key: str = "data.root",
    ) -> None:
        if split not in CLIC_COUNTS:
            raise DataError(f"split is {split!r}; give train, valid or test")
        if kind is not None and kind not in CLIC_COUNTS[split]:
            raise DataError(f"kind is {kind!r}; give professional, mobile or null")
        which = f"{kind}_{split}_2020" if kind else split
        advice = f"expected images in a folder {which}, as unpacked from https://compression.cc"
        folder = given_folder(root, key, "CLIC 2020", advice)
        paths = [
            path
            for path in list_images(folder)
            if _says(path.relative_to(folder), split) and _says(path.relative_to(folder), kind)
        ]
        if not paths:
            raise DataError(f"{folder}: {advice}; found {listing(folder)}")
        published = CLIC_COUNTS[split]
        self._expected = published[kind] if kind else sum(published.values())
        self._split, self._complete = split, len(paths) == self._expected
        self._found = len(paths)
        super().__init__(named(first_of(paths, limit), folder), longest_side, cache_mb)

    def remarks(self) -> list[str]:
        remarks = super().remarks()
        if self._complete:
            return remarks
        return [
            *remarks,
            f"CLIC 2020 {self._split}: {self._found} images, published were {self._expected}",
        ]


def _says(path: Path, word: str | None) -> bool:
    """Whether a folder of the path has the word in its name, as a word of its own: a folder
    ``latest`` is no ``test``, but ``CLIC2020Mobile_test`` is."""
    if word is None:
        return True
    pattern = re.compile(rf"(?<![a-z]){word}(?![a-z])|{word.capitalize()}(?![a-z])")
    return any(pattern.search(part) for part in path.parts[:-1])
