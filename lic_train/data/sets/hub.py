"""Image sets are loaded by the ``datasets`` library, by their name on the hub or from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lic_train.data.sources import DecodedSource, EncodedImage, ImageStream, checked_limit
from lic_train.errors import DataError

READ_AT_ONCE = 16  # images a stream hands over in one go


class HubImages(DecodedSource):
    """The images of one split in its order, decoded on demand.

    Names are those of the files, or numbers where there are none.

    Args:
        root, split: which set, see ``load``.
        limit: keep only the first ``limit`` images; ``None``: all.
        streamed: whether to keep the first ``limit`` image files in memory instead of downloading
            the set.
        longest_side, cache_mb: see ``DecodedSource``.
        more: ``column``, ``data_dir`` and ``key``, see ``load``.

    Raises:
        DataError: the set cannot be loaded, see ``load``; the split is empty; ``limit`` or
            ``longest_side`` is below 1, or ``limit`` is ``None`` for a streamed set.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        limit: int | None = None,
        streamed: bool = False,
        longest_side: int | None = None,
        cache_mb: float = 1024,
        **more: Any,
    ) -> None:
        super().__init__(longest_side, cache_mb)
        self._place = str(root)
        rows, self._column = load(root, split, streamed, **more)
        if streamed:
            if limit is None:
                raise DataError(f"{root}: a streamed set to evaluate on needs a limit")
            rows = list(islice(_rows(rows), checked_limit(limit)))
        elif limit is not None:
            rows = rows.take(min(len(rows), checked_limit(limit)))
        if len(rows) == 0:
            raise DataError(f"{root}: the split {split} is empty")
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def _encoded(self, index: int) -> EncodedImage:
        return encoded(self._rows[index][self._column], index, self._place)

    def name(self, index: int) -> str:
        return name_of(self._rows[index][self._column], index, self._place)

    def decode(self, index: int) -> Tensor:
        return self._encoded(index).decode()


class HubStream(ImageStream):
    """The images of one split as they arrive from the network or a folder, in random order.

    Args:
        root, split: which set, see ``load``.
        limit: keep only the first ``limit`` images; ``None``: all.
        buffer: number of images from which the next one is drawn at random. Files are read in
            random order as well.
        more: ``column``, ``data_dir`` and ``key``, see ``load``.

    Raises:
        DataError: the set cannot be loaded, see ``load``; or ``limit`` is below 1.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        limit: int | None = None,
        buffer: int = 1000,
        **more: Any,
    ) -> None:
        self._place = str(root)
        rows, self._column = load(root, split, streamed=True, **more)
        if limit is not None:
            rows = rows.take(checked_limit(limit))
        self._rows = rows
        self._buffer = buffer

    def images(self, number: int, seed: int) -> Iterator[EncodedImage]:
        state = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)
        rows = self._rows.shuffle(seed=int(state[0]), buffer_size=self._buffer)
        for position, row in enumerate(_rows(rows)):
            yield encoded(row[self._column], position, self._place)


def hub_images(
    root: str | Path | None, split: str, streamed: bool = False, **options: Any
) -> HubImages | HubStream:
    """Return a set to train on: a ``HubStream`` if it is streamed, else ``HubImages``.

    Args:
        root, split: which set, see ``load``.
        streamed: whether to read the set from the network instead of downloading it.
        options: further arguments of either class. ``cache_mb`` is ignored for a stream, and
            ``buffer`` for a set that is not streamed.

    Raises:
        DataError: as ``HubStream`` and ``HubImages``.
    """
    if streamed:
        options.pop("cache_mb", None)
        return HubStream(root, split, **options)
    options.pop("buffer", None)
    return HubImages(root, split, **options)


def load(
    root: str | Path | None,
    split: str,
    streamed: bool,
    column: str | None = None,
    data_dir: str | None = None,
    key: str = "data.root",
) -> tuple[Any, str]:
    """Load a split with its images left encoded.

    Args:
        root: name on the hub, or a folder that ``datasets.load_dataset`` takes (Parquet, image
            folder).
        split: its name in the set.
        streamed: whether to read the set from the network instead of downloading it.
        column: name of the column of images; ``None``: the only one there is.
        data_dir: folder within the set to load, where it has several.
        key: name of the setting for ``root``, for the error.

    Returns:
        The rows, and the name of the column of images.

    Raises:
        DataError: the set cannot be loaded, or has no such split or column; the text then says what
            it has.
    """
    if root is None:
        raise DataError(f"no set is given; add {key}=NAME of the hub, or a folder")
    import datasets

    place = str(Path(root).expanduser()) if Path(root).expanduser().exists() else str(root)
    try:
        sets = datasets.load_dataset(place, data_dir=data_dir, streaming=streamed)
    except Exception as error:  # each builder and the network have their own
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{root}: the datasets library cannot load it ({reason}); give the name of a set on "
            "the hub and a network, or a folder of images or Parquet files"
        ) from error
    if split not in sets:
        raise DataError(f"{root}: has no split {split!r} but {', '.join(sorted(sets))}")
    rows = sets[split]
    features = rows.features or {}
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if column is None and len(images) == 1:
        column = images[0]
    if column is None or column not in images:
        raise DataError(
            f"{root}: expected one column of images, or its name as column=; found images in "
            f"{images} of {list(features)}"
        )
    return rows.cast_column(column, datasets.Image(decode=False)), column


def encoded(value: dict[str, Any], index: int, place: str) -> EncodedImage:
    """Return the image file of a row, reading it where the row holds only its path.

    Args:
        value: the row's "bytes" and "path", as ``datasets`` gives them.
        index: number of the row.
        place: folder of the set, or its name on the hub.

    Raises:
        DataError: the file cannot be read.
    """
    data = value["bytes"]
    if data is None:
        import fsspec

        try:
            with fsspec.open(value["path"], "rb") as file:
                data = file.read()
        except OSError as error:
            raise DataError(f"{value['path']}: cannot be read ({error.strerror})") from error
    return EncodedImage(name_of(value, index, place), data)


def name_of(value: dict[str, Any], index: int, place: str) -> str:
    """Name an image by its path below the set's folder, else by its file name, else by its number.

    Args:
        value: the row's "bytes" and "path", as ``datasets`` gives them.
        index: number of the row.
        place: folder of the set, or its name on the hub.
    """
    path = value["path"]
    if not path:
        return f"{index:06}"
    here = Path(place).expanduser().resolve()
    below = Path(path).resolve()
    return below.relative_to(here).as_posix() if below.is_relative_to(here) else below.name


def _rows(rows: Any) -> Iterator[dict[str, Any]]:
    """A stream's rows in its order. Plain iteration would deal them out to the loader's workers."""
    for table in rows.iter(batch_size=READ_AT_ONCE):
        columns = list(table)
        for values in zip(*table.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
