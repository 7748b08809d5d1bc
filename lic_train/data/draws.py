"""Training samples are an endless numbered stream: draw k depends on (seed, k) and nothing else.

Hence a run does not depend on the number of loader processes or ranks, and may resume anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from lic_train.data.sources import EncodedImage, ImageSource, ImageStream
from lic_train.data.transforms import Crop
from lic_train.errors import DataError
from lic_train.utils.ranks import rank_and_world_size

ORDER, CROP, STAND_IN = 0, 1, 2  # separate families of random numbers under one seed
MAX_STAND_INS = 100


class Note(NamedTuple):
    """A message about an image that was skipped, or enlarged because it is smaller than the crop.

    Attributes:
        kind: "skipped" or "upscaled".
        name: name of the image.
        reason: why, in words.
    """

    kind: Literal["skipped", "upscaled"]
    name: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.name in self.reason else f"{self.name}: {self.reason}"


class Draw(NamedTuple):
    """One training sample.

    Attributes:
        pixels: uint8 ``(3, s, s)``, or ``(T, 3, s, s)`` for a clip.
        name: name of the image it shows.
        notes: on this image and on those that were skipped before it.
    """

    pixels: Tensor
    name: str
    notes: tuple[Note, ...] = ()


class Choices(NamedTuple):
    """What to do with unusable training images.

    Attributes:
        corrupt: "skip" replaces an image that cannot be read by another, "fail" raises its
            DataError.
        small: "upscale" enlarges an image whose short side is below the crop's, "skip" replaces it.
    """

    corrupt: Literal["skip", "fail"] = "skip"
    small: Literal["upscale", "skip"] = "upscale"


def seeded_generator(seed: int, family: int, number: int) -> torch.Generator:
    """Return a CPU generator whose seed is a hash of the three arguments.

    Args:
        seed: of the run, at least 0.
        family: what the numbers are for: ``ORDER``, ``CROP`` or ``STAND_IN``.
        number: of the pass or draw, at least 0.
    """
    state = np.random.SeedSequence(seed, spawn_key=(family, number)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def cut(
    pixels: Tensor, name: str, crop: Crop, seed: int, k: int, choices: Choices
) -> tuple[Draw | None, Note | None]:
    """Crop draw ``k`` out of an image.

    Args:
        pixels: uint8 ``(..., 3, H, W)``.
        name: name of the image.
        crop: makes the sample, with a generator seeded by (seed, k).
        seed: of the run, at least 0.
        k: number of the draw, at least 0.
        choices: what to do with an image smaller than the crop.

    Returns:
        The draw, or ``None`` if the image is skipped as too small; and the note on it, if any.
    """
    height, width = pixels.shape[-2:]
    note = None
    if min(height, width) < crop.size:
        kind: Any = "skipped" if choices.small == "skip" else "upscaled"
        note = Note(kind, name, f"{width}x{height} is smaller than the crop of {crop.size}")
        if kind == "skipped":
            return None, note
    return Draw(crop(pixels, seeded_generator(seed, CROP, k)), name), note


class Late(NamedTuple):
    """Larger and fewer crops in the last batches of a training run, see ``ImageDataModule``.

    Attributes:
        crop: makes the crops of these batches.
        batch_size: their number of crops, per rank.
        first: number of earlier batches, per rank.
        early_size: crops per earlier batch and rank.
        ranks: number of ranks.
    """

    crop: Crop
    batch_size: int
    first: int
    early_size: int
    ranks: int

    def draws_before(self, batch: int) -> int:
        """Return how many draws all ranks together make before batch number ``batch``."""
        early, late = min(batch, self.first), max(0, batch - self.first)
        return (early * self.early_size + late * self.batch_size) * self.ranks


class Draws(Dataset[Draw]):
    """The stream of training samples; item k >= 0 is draw k.

    Pass ``p = k // len(source)`` visits every image once, in an order seeded by (seed, p). The
    crop's generator is seeded by (seed, k). An image that is skipped is replaced by another one,
    which is chosen at random, seeded by (seed, k). Where ``late`` is set, its crop makes the last
    draws.

    Args:
        source: the images or clips.
        crop: makes the samples.
        seed: at least 0.
        choices: what to do with unusable images.

    Raises:
        DataError: on access, when neither the image nor any of ``MAX_STAND_INS`` others can be
            used; the text names the last one tried. Or when an image cannot be read and
            ``choices.corrupt`` is "fail".
    """

    def __init__(
        self, source: ImageSource, crop: Crop, seed: int, choices: Choices | None = None
    ) -> None:
        self.source = source
        self.crop = crop
        self.seed = seed
        self.choices = choices or Choices()
        self.late: Late | None = None
        self._pass = -1  # the pass whose order is at hand
        self._order: list[int] = []
        self._unusable: dict[int, Note] = {}

    def __getitem__(self, k: int) -> Draw:
        notes: list[Note] = []
        for index in itertools.chain([self.image_index(k)], self._stand_ins(k)):
            draw, note = self._try(k, index)
            notes += [note] if note else []
            if draw is not None:
                return draw._replace(notes=tuple(notes))
        raise _none_usable(notes)

    def loading(self, batch: int, batch_size: int) -> dict[str, Any]:
        """Return the ``DataLoader`` arguments with which loading begins at batch number ``batch``.

        Args:
            batch: how many batches each rank has used so far.
            batch_size: crops per batch and rank; those of ``late`` are its own.
        """
        if self.late is not None:
            return {"dataset": self, "batch_sampler": GrowingBatches(self.late, batch)}
        first = batch * batch_size * rank_and_world_size()[1]
        return {"dataset": self, "sampler": DrawSampler(first), "batch_size": batch_size}

    def image_index(self, k: int) -> int:
        """Return the index of the image that draw ``k`` shows unless it is skipped."""
        number, position = divmod(k, len(self.source))
        if number != self._pass:
            generator = seeded_generator(self.seed, ORDER, number)
            self._order = torch.randperm(len(self.source), generator=generator).tolist()
            self._pass = number
        return self._order[position]

    def _crop(self, k: int) -> Crop:
        late = self.late
        return late.crop if late and k >= late.draws_before(late.first) else self.crop

    def _stand_ins(self, k: int) -> Iterator[int]:
        generator = seeded_generator(self.seed, STAND_IN, k)
        yield from torch.randint(len(self.source), (MAX_STAND_INS,), generator=generator).tolist()

    def _try(self, k: int, index: int) -> tuple[Draw | None, Note | None]:
        if index in self._unusable:
            return None, self._unusable[index]
        try:
            pixels, name = self.source.pixels(index), self.source.name(index)
            crop = self._crop(k)
            height, width = pixels.shape[-2:]
            top, _, side = crop.window(height, width, seeded_generator(self.seed, CROP, k))
            self.source.expect(index, top, top + side)
            draw, note = cut(pixels, name, crop, self.seed, k, self.choices)
        except DataError as error:
            if self.choices.corrupt == "fail":
                raise
            draw, note = None, Note("skipped", self.source.name(index), str(error))
        if draw is None and note is not None:
            self._unusable[index] = note
        return draw, note


class StreamedDraws(IterableDataset[Draw]):
    """The stream of training samples from an image stream; image k of it becomes draw k.

    Every process reads the whole stream and decodes only its own share. No image is lost or seen
    twice, whatever the number of workers and ranks, but the files are read once per process. To
    resume after draw k, everything before it is read again. An image that is skipped is replaced by
    the next usable one in the stream.

    Args:
        source: the stream of images.
        crop: makes the samples.
        seed: at least 0.
        choices: what to do with unusable images.

    Raises:
        DataError: during iteration, when the stream is empty, or more than ``MAX_STAND_INS`` images
            in a row cannot be used; the text names the last one tried. Or when an image cannot be
            read and ``choices.corrupt`` is "fail".
    """

    def __init__(
        self, source: ImageStream, crop: Crop, seed: int, choices: Choices | None = None
    ) -> None:
        self.source = source
        self.crop = crop
        self.seed = seed
        self.choices = choices or Choices()
        self.first, self.batch_size = 0, 1

    def loading(self, batch: int, batch_size: int) -> dict[str, Any]:
        """Return the ``DataLoader`` arguments with which loading begins at batch number ``batch``.

        Args:
            batch: how many batches each rank has used so far.
            batch_size: crops per batch and rank.
        """
        self.first, self.batch_size = batch * batch_size * rank_and_world_size()[1], batch_size
        return {"dataset": self, "batch_size": batch_size}

    def __iter__(self) -> Iterator[Draw]:
        rank, world = rank_and_world_size()
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        waiting: list[int] = []  # draws of this process that have no image yet
        notes: list[Note] = []
        for k, image in enumerate(self._images()):
            position = k - self.first
            batch = position // (world * self.batch_size)
            if position >= 0 and position % world == rank and batch % workers == worker:
                waiting.append(k)
            if not waiting:
                continue
            draws, note = self._try(waiting, image)
            notes += [note] if note else []
            if draws:
                yield draws[0]._replace(notes=tuple(notes))
                yield from draws[1:]
                waiting, notes = [], []
            elif len(notes) > MAX_STAND_INS:
                raise _none_usable(notes)

    def _images(self) -> Iterator[EncodedImage]:
        """All passes, one after another."""
        for number in itertools.count():
            empty = True
            for image in self.source.images(number, self.seed):
                empty = False
                yield image
            if empty:
                raise DataError("the stream of training images is empty")

    def _try(self, numbers: list[int], image: EncodedImage) -> tuple[list[Draw], Note | None]:
        """The draws of these numbers out of one image; none where the image is unusable."""
        draws: list[Draw] = []
        note = None
        try:
            pixels = image.decode()
        except DataError as error:
            if self.choices.corrupt == "fail":
                raise
            return [], Note("skipped", image.name, str(error))
        for k in numbers:
            draw, note = cut(pixels, image.name, self.crop, self.seed, k, self.choices)
            draws += [draw] if draw else []
        return draws, note


def _none_usable(notes: list[Note]) -> DataError:
    tried = len({note.name for note in notes})
    return DataError(f"none of {tried} images that were tried can be used; the last: {notes[-1]}")


class DrawSampler(Sampler[int]):
    """The draw numbers of this rank, without end: random crops have no epochs.

    Under torch.distributed, rank r of W takes every W-th number, beginning with ``first + r``. The
    n-th batches of all ranks together are the n-th batch of one process with W times the batch
    size.

    Args:
        first: the first draw number, at least 0.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        rank, world_size = rank_and_world_size()
        return itertools.count(self.first + rank, world_size)


class GrowingBatches(Sampler[list[int]]):
    """The draw numbers of this rank, batch by batch and without end.

    The draws are distributed over the ranks as in :class:`DrawSampler`.

    Args:
        late: sizes of the early and the late batches.
        batch: number of the first batch, at least 0.
    """

    def __init__(self, late: Late, batch: int) -> None:
        self.late, self.batch = late, batch

    def __iter__(self) -> Iterator[list[int]]:
        rank, _ = rank_and_world_size()
        for batch in itertools.count(self.batch):
            first, end = self.late.draws_before(batch), self.late.draws_before(batch + 1)
            yield list(range(first + rank, end, self.late.ranks))
