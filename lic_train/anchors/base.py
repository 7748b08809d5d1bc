"""What a conventional codec is to the tables, and what it makes of a signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor


class Coded(NamedTuple):
    """A signal through an anchor: the file, its pixels ``(..., 3, H, W)`` uint8, and seconds."""

    data: bytes
    pixels: Tensor
    encode_s: float
    decode_s: float


class Anchor(ABC):
    """One conventional codec with its ladder of qualities.

    Attributes:
        name: what the rows say in ``codec``.
        title: what people call it.
        qualities: the ladder, coarse to fine.
    """

    name: str
    title: str
    qualities: tuple[int, ...]

    @abstractmethod
    def absent(self) -> str:
        """Why it cannot be used here, one line; ``""``: it can."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """How its numbers are made: versions, settings and ladder, for whoever repeats them."""

    def of_group(self, pictures: int) -> Anchor:
        """The same for signals of which every so many pictures one is coded alone."""
        return self

    @abstractmethod
    def settings(self, quality: int) -> dict[str, Any]:
        """What the library is given at a quality."""

    @abstractmethod
    def code(self, pixels: Tensor, quality: int) -> Coded:
        """Encode and decode one signal.

        Args:
            pixels: ``(..., 3, H, W)``, ``uint8``.
            quality: in the anchor's own units.

        Raises:
            DataError: the codec refuses the signal, e.g. for its size.
        """
