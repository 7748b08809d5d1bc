"""Image sets that the `datasets` library loads: by their name on the hub, or from a folder."""

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
    """The images of one split, in its order, decoded when asked for.

    root, split, and column, data_dir, key in `more`: which set, see `load`.
    limit: keep only the first `limit` images.
    streamed: do not download the set, but keep the first `limit` image files in memory.
    longest_side, cache_mb: see `DecodedSource`.
    Names are those of the files, or else numbers.

    Raises DataError as `load` does, and for an empty split.
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
    """The images of one split as they come out of the network, or out of a folder.

    buffer: images among which the next is drawn at random; besides, files are read in a random
    order. The other arguments are those of `HubImages`.
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
    """What one trains on: `HubStream` where it is streamed, else `HubImages`."""
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
    """A split with its images left encoded, and the name of their column.

    root: name on the hub, or a folder that `datasets.load_dataset` takes (Parquet, image folder).
    split: as the set calls it. column: of the images; null: the only one there is.
    data_dir: folder of the set to take, where it holds several.
    key: the setting that a message tells to give.

    Raises DataError if the set cannot be had or has no such split or column, naming what it has.
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
    """The file of a row, read where the set holds its path alone."""
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
    """The path below the set's folder or, elsewhere, the file's name; else the number."""
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
