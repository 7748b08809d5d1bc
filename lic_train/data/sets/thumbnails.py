"""Thumbnails for evaluation are fixed squares of each photograph, resized once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from lic_train.data.io.images import resize
from lic_train.data.sources import ImageSource
from lic_train.errors import DataError


class Thumbnails(ImageSource):
    """The ``size`` x ``size`` thumbnails of the images of a source, always the same ones.

    For each image and share, they are the largest centred grid of squares whose side is that share
    of the image's short side, downscaled with Lanczos and never compressed. Squares smaller than
    ``size`` are left out, except for the largest share; a ``size`` x ``size`` image is its own
    thumbnail. Names are ``<name of the image>#<number in its whole grid>``.

    Args:
        source: the photographs. It needs no cache of its own.
        size: side of the thumbnails in pixels, at least 1.
        shares: in (0, 1], of the short side; at least one.
        limit: maximum number of thumbnails, taken evenly from the images and from the grid of each
            image; at least 1, ``None``: all.
        longest_side: an upper bound of ``size``, as other sources have it; ``None``: none.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(
        self,
        source: ImageSource,
        size: int = 32,
        shares: Sequence[float] = (1, 0.5, 0.25, 0.125),
        limit: int | None = None,
        longest_side: int | None = None,
    ) -> None:
        if size < 1:
            raise DataError(f"the thumbnail size is {size}; give at least 1 pixel")
        if not shares or not all(0 < share <= 1 for share in shares):
            raise DataError(f"shares are {list(shares)}; give numbers above 0 and at most 1")
        if limit is not None and limit < 1:
            raise DataError(f"limit is {limit}; give at least 1 thumbnail, or null for all")
        self.source = source
        self.size = min(size, longest_side or size)
        self.shares = sorted(shares, reverse=True)
        self.limit = limit
        self._prepared: list[tuple[str, Tensor]] = []

    def __len__(self) -> int:
        return len(self._thumbnails())

    def name(self, index: int) -> str:
        return self._thumbnails()[index][0]

    def pixels(self, index: int) -> Tensor:
        return self._thumbnails()[index][1]

    def _thumbnails(self) -> list[tuple[str, Tensor]]:
        if not self._prepared:
            images = len(self.source)
            quotas: list[int | None] = [None] * images
            if self.limit is not None:
                quotas = [part.stop - part.start for part in _even_parts(self.limit, images)]
            for index, quota in enumerate(quotas):
                if quota != 0:
                    self._prepared += self._of_image(index, quota)
        return self._prepared

    def _of_image(self, index: int, quota: int | None) -> Iterator[tuple[str, Tensor]]:
        pixels, name = self.source.pixels(index), self.source.name(index)
        squares = list(self._squares(*pixels.shape[-2:]))
        kept: Sequence[int] = range(len(squares))
        if quota is not None and quota < len(squares):
            kept = [part.start for part in _even_parts(len(squares), quota)]
        for number in kept:
            top, left, side = squares[number]
            square = pixels[:, top : top + side, left : left + side]
            if side != self.size:
                square = resize(square, self.size, self.size)
            yield f"{name}#{number}", square.clone()  # not a view of the whole photograph

    def _squares(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """Top, left and side of each square of the grids, in pixels."""
        short_side = min(height, width)
        for share in self.shares:
            side = max(1, round(share * short_side))
            if side < self.size and share != self.shares[0]:
                continue
            rows, columns = height // side, width // side
            top, left = (height - rows * side) // 2, (width - columns * side) // 2
            for row in range(rows):
                for column in range(columns):
                    yield top + row * side, left + column * side, side


def _even_parts(number: int, parts: int) -> list[range]:
    """0 ... number - 1 in so many runs, as equal as they can be."""
    edges = [i * number // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges)]
