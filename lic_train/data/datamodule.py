"""Two sources and a crop become training batches, validation crops and whole test signals."""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lic_train.data.draws import Choices, Draw, Draws, Late, Note, StreamedDraws
from lic_train.data.sources import ImageSource, ImageStream
from lic_train.data.transforms import Crop, centre_crop
from lic_train.errors import DataError
from lic_train.utils.ranks import rank_and_world_size


class Batch(NamedTuple):
    """A batch of training crops, or one evaluation image.

    Attributes:
        x: ``(N, 3, s, s)``, or ``(N, T, 3, s, s)`` for clips; in validation N is 1 and the sample
            need not be square. The loader yields uint8 in [0, 255], the trainer gets float32 in
            [0, 1], see ``ImageDataModule.on_after_batch_transfer``.
        names: one per image.
        notes: on the images that were skipped or enlarged to make the batch.
    """

    x: Tensor
    names: list[str]
    notes: tuple[Note, ...] = ()


class Signal(NamedTuple):
    """A whole evaluation image or clip.

    Attributes:
        name: unique within its source.
        pixels: uint8 ``(3, H, W)``, or ``(T, 3, H, W)`` for a clip.
    """

    name: str
    pixels: Tensor


class Signals:
    """The whole images of a source in its order, read again in every pass, one at a time.

    Args:
        source: the images or clips.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def names(self) -> list[str]:
        """Return the names of all images, in order."""
        return [self.source.name(index) for index in range(len(self.source))]

    def remarks(self) -> list[str]:
        """What is to be known of the images that were read so far, one line each."""
        return self.source.remarks()

    def __iter__(self) -> Iterator[Signal]:
        for index in range(len(self.source)):
            yield Signal(self.source.name(index), self.source.pixels(index))


def collate(draws: list[Draw]) -> Batch:
    """Stack samples of equal size into a batch.

    Args:
        draws: at least one, with uint8 ``(..., 3, s, s)`` pixels of the same shape.

    Returns:
        The batch; its pixels are uint8 ``(N, ..., 3, s, s)``, channels-last in memory.
    """
    x = torch.stack([draw.pixels.movedim(-3, -1) for draw in draws]).movedim(-1, -3)
    notes = tuple(note for draw in draws for note in draw.notes)
    return Batch(x, [draw.name for draw in draws], notes)


class CentreCrops(Dataset[Draw]):
    """The evaluation images, each cropped to its centre.

    Args:
        source: the images or clips.
        side: maximum height and width of the crops, in pixels.
    """

    def __init__(self, source: ImageSource, side: int) -> None:
        self.source = source
        self.side = side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Draw:
        return Draw(centre_crop(self.source.pixels(index), self.side), self.source.name(index))


class ImageDataModule(LightningDataModule):
    """Training crops and evaluation images from photographs or clips.

    Samples of clips have a frame axis. The trainer needs ``use_distributed_sampler=False``: the
    sampler of this module distributes the draws over the ranks. Every rank sees all validation
    images.

    Args:
        train: the training images.
        eval: the evaluation images. The caller keeps the two sets disjoint.
        crop: makes every training sample; its generator is seeded by (seed, draw number).
        batch_size: crops per batch and rank, at least 1. Every batch is full.
        seed: at least 0; determines the order of the images and the crops.
        num_workers: loader processes for training; each keeps its own decoded images. Evaluation
            images are decoded in the main process, where validation and ``signals`` share them.
        pin_memory: whether to page-lock the batches where CUDA is available.
        eval_crop: maximum height and width, in pixels, of validation crops, which come one per
            batch.
        late_scale: factor by which the side of the crops grows in the last batches; 1 (off) or
            more. These batches have ``1 / late_scale**2`` as many crops, but at least one per rank.
            Small crops train fast, but show a hyperprior little more than borders, see the README.
        late_share: share of the training that has the larger crops, in [0, 1]; 0 is off.
        steps: length of the training in optimizer steps; required where crops grow late.
        corrupt: what to do with training images that cannot be read, see ``Choices``. An evaluation
            image that cannot be read is always an error, because results are for a whole set.
        small: what to do with training images smaller than the crop, see ``Choices``. Images that
            are skipped or enlarged are reported on stderr; ``skipped`` maps the names of skipped
            images to the reasons.

    Raises:
        DataError: an argument is out of range, or crops are to grow late without ``steps`` or in a
            stream.
    """

    def __init__(
        self,
        train: ImageSource | ImageStream,
        eval: ImageSource,
        crop: Crop,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        eval_crop: int = 256,
        late_scale: int = 1,
        late_share: float = 0.3,
        steps: int | None = None,
        corrupt: Literal["skip", "fail"] = "skip",
        small: Literal["upscale", "skip"] = "upscale",
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_crop < 1:
            raise DataError(f"batch_size {batch_size} and eval_crop {eval_crop} must be at least 1")
        if seed < 0:
            raise DataError(f"the data seed is {seed}; give 0 or more")
        if corrupt not in ("skip", "fail") or small not in ("upscale", "skip"):
            raise DataError("give corrupt=skip or fail, and small=upscale or skip")
        if late_scale < 1 or not 0 <= late_share <= 1:
            raise DataError(
                f"late_scale {late_scale} is below 1, or late_share {late_share} no share"
            )
        grows = late_scale > 1 and late_share > 0
        if grows and (steps is None or isinstance(train, ImageStream)):
            raise DataError("crops grow late in trainings of known length, and not of streams")
        self.train_source = train
        self.eval_source = eval
        self.batch_size = batch_size
        self.late_scale = late_scale if grows else 1
        self.late_from = round((steps or 0) * (1 - late_share))
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.eval_crop = eval_crop
        self.skipped: dict[str, str] = {}
        self._said: set[str] = set()
        choices = Choices(corrupt, small)
        self.draws: Draws | StreamedDraws = (
            StreamedDraws(train, crop, seed, choices)
            if isinstance(train, ImageStream)
            else Draws(train, crop, seed, choices)
        )

    def train_dataloader(self) -> DataLoader[Draw]:
        """Return an endless loader of training batches.

        When a trainer resumes from a checkpoint, the loader begins with the batch after it.
        """
        count, world_size = self._train_count(), rank_and_world_size()[1]
        if count is not None and count < world_size:
            self._say("ranks", f"{count} images for {world_size} ranks: a batch has some twice")
        if self.late_scale > 1 and isinstance(self.draws, Draws):
            self.draws.late = self._late(self.draws.crop)
        return DataLoader(
            **self.draws.loading(self._batches_used(), self.batch_size),
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            generator=self._loader_generator(),
            worker_init_fn=_outlive_ctrl_c,
        )

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Report on stderr what the loader's processes could not: skipped and enlarged images.

        Each skipped image is reported once, and of the enlarged ones only the first.
        """
        for note in batch.notes:
            if note.kind == "upscaled":
                self._say(note.kind, f"{note}; such images are enlarged")
            elif note.name not in self.skipped:
                self.skipped[note.name] = note.reason
                of = f" of {count}" if (count := self._train_count()) else ""
                self._say(note.name, f"skipped {note} ({len(self.skipped)}{of})")
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale uint8 pixels to float32 in [0, 1] on the device.

        A batch that is floating point already stays as it is.

        A uint8 batch has a quarter of the bytes to transfer. The workers do everything else on
        uint8 crops, flips and colours included, so results are the same for any number of workers,
        ranks and devices. Mirroring a 256x256 crop takes a worker 0.05 ms and recolouring it
        0.5 ms, compared with 5 to 40 ms for decoding its photograph.
        """
        if batch.x.is_floating_point():
            return batch
        x = batch.x.to(torch.float32, memory_format=torch.contiguous_format)
        return batch._replace(x=x.div_(255))

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            print(f"lic_train: {text}", file=sys.stderr, flush=True)

    def _train_count(self) -> int | None:
        source = self.train_source
        return None if isinstance(source, ImageStream) else len(source)

    def describe(self) -> str:
        """Describe in words how many images there are to train on and to evaluate."""
        count = self._train_count()
        train = "a stream of images" if count is None else f"{count} images"
        return f"{train} to train on, {len(self.eval_source)} to evaluate"

    def _late(self, crop: Crop) -> Late:
        large = copy.copy(crop)
        large.size = self.late_scale * crop.size
        batch_size = max(1, self.batch_size // self.late_scale**2)
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        first, ranks = self.late_from * accumulated, rank_and_world_size()[1]
        return Late(large, batch_size, first, self.batch_size, ranks)

    def _batches_used(self) -> int:
        """How many batches each rank has trained on, from the trainer's global step."""
        if self.trainer is None:
            return 0
        return self.trainer.global_step * self.trainer.accumulate_grad_batches

    def val_dataloader(self) -> DataLoader[Draw]:
        """Return a loader of single, centre-cropped evaluation images, always in the same order."""
        return DataLoader(
            CentreCrops(self.eval_source, self.eval_crop),
            batch_size=1,
            collate_fn=collate,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            generator=self._loader_generator(),
        )

    def signals(self) -> Signals:
        """Return the whole evaluation images, to be coded to files."""
        return Signals(self.eval_source)

    def _loader_generator(self) -> torch.Generator:
        """DataLoader draws one number per pass, by default from the global generator."""
        return torch.Generator().manual_seed(self.seed)


def _outlive_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the run wants its last batch and ends these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
