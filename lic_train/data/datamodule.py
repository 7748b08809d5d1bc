"""Two sources and a crop become training batches, validation crops and whole test signals."""

from __future__ import annotations

import copy
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
    """x: (N, 3, s, s) or, in validation, (1, 3, H, W); names: one per image.

    Of clips x is (N, T, 3, s, s). The loader gives uint8, 0-255, and the trainer gets float32 in
    [0, 1]: see `ImageDataModule.on_after_batch_transfer`.
    notes: of the images that were skipped or enlarged for it.
    """

    x: Tensor
    names: list[str]
    notes: tuple[Note, ...] = ()


class Signal(NamedTuple):
    """A whole evaluation image, pixels uint8 (3, H, W), or clip, uint8 (T, 3, H, W)."""

    name: str
    pixels: Tensor


class Signals:
    """The whole images of a source, in its order; read anew at each pass, one at a time."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def names(self) -> list[str]:
        """Of all images, in order; none of them is read."""
        return [self.source.name(index) for index in range(len(self.source))]

    def remarks(self) -> list[str]:
        """What is to be known of the images that were read so far, one line each."""
        return self.source.remarks()

    def __iter__(self) -> Iterator[Signal]:
        for index in range(len(self.source)):
            yield Signal(self.source.name(index), self.source.pixels(index))


def collate(draws: list[Draw]) -> Batch:
    """Stack equal-sized uint8 images, row by row as they lie in memory, (N, s, s, 3)."""
    x = torch.stack([draw.pixels.movedim(-3, -1) for draw in draws]).movedim(-1, -3)
    notes = tuple(note for draw in draws for note in draw.notes)
    return Batch(x, [draw.name for draw in draws], notes)


class CentreCrops(Dataset[Draw]):
    """The evaluation images, each cut to its central `side` x `side` pixels at most."""

    def __init__(self, source: ImageSource, side: int) -> None:
        self.source = source
        self.side = side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Draw:
        return Draw(centre_crop(self.source.pixels(index), self.side), self.source.name(index))


class ImageDataModule(LightningDataModule):
    """Training crops and evaluation images of photographs, or of clips, which have a frame axis.

    train, eval: the two sets of images; keeping them disjoint is their business.
    crop: makes every training sample; its generator is seeded by (seed, draw number).
    batch_size: crops per batch and rank; a last batch that is not full is dropped.
    late_scale, late_share, steps: the last `late_share` of a training of `steps` batches has crops
        `late_scale` times as large a side, as many fewer of them; 1, or a share of 0, is off.
        Small crops teach fast, but a hyperprior sees little in them but borders: see the README.
    seed: >= 0, of the order of the images and of the crops.
    num_workers: loader processes for training; each keeps its own decoded images. Evaluation images
        are decoded in the main process, where validation and `signals` share them.
    eval_crop: validation batches are single images cut to this many pixels a side at most.
    corrupt, small: what becomes of training images that cannot be read, or are smaller than the
        crop; see `Choices`. Both are said on stderr, and `skipped` holds the reasons by name. An
        evaluation image that cannot be read is always an error: figures are of a whole set.

    The trainer needs `use_distributed_sampler=False`: the sampler here shares the draws out. Every
    rank sees all validation images. Raises DataError for sizes that give no batch.
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
        """Batches without end. A trainer that resumes from a checkpoint gets those after it."""
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
        )

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Say what the loader's processes could not: each image once, upscaling once."""
        for note in batch.notes:
            if note.kind == "upscaled":
                self._say(note.kind, f"{note}; such images are enlarged")
            elif note.name not in self.skipped:
                self.skipped[note.name] = note.reason
                of = f" of {count}" if (count := self._train_count()) else ""
                self._say(note.name, f"skipped {note} ({len(self.skipped)}{of})")
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale 0-255 to float32 in [0, 1] on the device: a quarter of the bytes goes there.

        Everything before is done on uint8 crops by the workers, flips and colours too: a mirrored
        crop of 256x256 costs them 0.05 ms and a recoloured one 0.5 where decoding its photograph
        costs 5 to 40, and so they are the same for any number of workers, ranks and devices.
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
        """How many images there are, in words."""
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
        """One evaluation image per batch, centre-cropped, always in the same order."""
        return DataLoader(
            CentreCrops(self.eval_source, self.eval_crop),
            batch_size=1,
            collate_fn=collate,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            generator=self._loader_generator(),
        )

    def signals(self) -> Signals:
        """The whole evaluation images, for coding to real bitstreams."""
        return Signals(self.eval_source)

    def _loader_generator(self) -> torch.Generator:
        """DataLoader draws one number per pass, by default from the global generator."""
        return torch.Generator().manual_seed(self.seed)
