"""Two sources and a crop become training batches, validation crops and whole test signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lic_train.data.draws import Draw, Draws, DrawSampler, rank_and_world_size
from lic_train.data.sources import ImageSource
from lic_train.data.transforms import Crop, centre_crop
from lic_train.errors import DataError


class Batch(NamedTuple):
    """x: float32 (N, 3, s, s) or, in validation, (1, 3, H, W), in [0, 1]; names: one per image.

    Of clips x is (N, T, 3, s, s).
    """

    x: Tensor
    names: list[str]


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

    def __iter__(self) -> Iterator[Signal]:
        for index in range(len(self.source)):
            yield Signal(self.source.name(index), self.source.pixels(index))


def collate(draws: list[Draw]) -> Batch:
    """Stack equal-sized uint8 images and scale 0-255 to [0, 1], once per batch."""
    x = torch.stack([draw.pixels for draw in draws]).float().div_(255)
    return Batch(x, [draw.name for draw in draws])


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
    seed: >= 0, of the order of the images and of the crops.
    num_workers: loader processes for training; each keeps its own decoded images. Evaluation images
        are decoded in the main process, where validation and `signals` share them.
    eval_crop: validation batches are single images cut to this many pixels a side at most.
    name, root, eval_root, crop_size, longest_side, frames: not used here. They are settings of
        conf/data/*.yaml: what tables call the evaluation images, and what the train, eval and crop
        nodes refer to, so that `data.root=FOLDER` suffices.

    The trainer needs `use_distributed_sampler=False`: the sampler here shares the draws out. Every
    rank sees all validation images. Raises DataError for sizes that give no batch.
    """

    def __init__(
        self,
        train: ImageSource,
        eval: ImageSource,
        crop: Crop,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        eval_crop: int = 256,
        name: str | None = None,
        root: str | Path | None = None,
        eval_root: str | Path | None = None,
        crop_size: int | None = None,
        longest_side: int | None = None,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_crop < 1:
            raise DataError(f"batch_size {batch_size} and eval_crop {eval_crop} must be at least 1")
        if seed < 0:
            raise DataError(f"the data seed is {seed}; give 0 or more")
        self.train_source = train
        self.eval_source = eval
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.eval_crop = eval_crop
        self.draws = Draws(train, crop, seed)

    def train_dataloader(self) -> DataLoader[Draw]:
        """Batches without end. A trainer that goes on from a checkpoint gets those after it."""
        return DataLoader(
            self.draws,
            batch_size=self.batch_size,
            sampler=DrawSampler(self._draws_used()),
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.pin_memory,
            generator=self._loader_generator(),
        )

    def _draws_used(self) -> int:
        """How many draws all ranks together have trained on, from the trainer's global step."""
        if self.trainer is None:
            return 0
        batches = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return batches * self.batch_size * rank_and_world_size()[1]

    def val_dataloader(self) -> DataLoader[Draw]:
        """One evaluation image per batch, centre-cropped, always in the same order."""
        return DataLoader(
            CentreCrops(self.eval_source, self.eval_crop),
            batch_size=1,
            collate_fn=collate,
            pin_memory=self.pin_memory,
            generator=self._loader_generator(),
        )

    def signals(self) -> Signals:
        """The whole evaluation images, for coding to real bitstreams."""
        return Signals(self.eval_source)

    def _loader_generator(self) -> torch.Generator:
        """DataLoader draws one number per pass, by default from the global generator."""
        return torch.Generator().manual_seed(self.seed)
