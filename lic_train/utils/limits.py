"""How many pixels a file may ask for before anything is decoded."""

from __future__ import annotations

import os

from lic_train.errors import DataError

VARIABLE = "LIC_MAX_PIXELS"
DEFAULT = 89_478_485
"""Pixels, of all frames of a file together: Pillow's limit against decompression bombs."""


def max_pixels() -> int:
    """The limit: of the environment variable ``LIC_MAX_PIXELS``, else :data:`DEFAULT`.

    Raises:
        DataError: the variable is no whole number from 1.
    """
    given = os.environ.get(VARIABLE, str(DEFAULT))
    if not given.isascii() or not given.isdecimal() or int(given) < 1:
        raise DataError(f"{VARIABLE} is {given!r}; give a number of pixels")
    return int(given)


def limit_pillow() -> None:
    """Let Pillow apply the same limit."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max_pixels()


def too_many_pixels(what: str) -> str:
    """The message of every refusal."""
    return (
        f"{what} has more than {max_pixels()} pixels; make it smaller, or allow more with the "
        f"environment variable {VARIABLE}"
    )
