"""Training samples are an endless numbered stream: draw k depends on (seed, k) and nothing else.

Hence a run does not depend on the number of loader processes or ranks, and may resume anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset, Sampler

from lic_train.data.sources import ImageSource
from lic_train.data.transforms import Crop

ORDER, CROP = 0, 1  # separate families of random numbers under one seed


class Draw(NamedTuple):
    """One training sample: pixels uint8 (3, s, s), of a clip (T, 3, s, s), and its image's name."""

    pixels: Tensor
    name: str


def seeded_generator(seed: int, family: int, number: int) -> torch.Generator:
    """A CPU generator that is a hash of its three arguments, all >= 0."""
    state = np.random.SeedSequence(seed, spawn_key=(family, number)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


class Draws(Dataset[Draw]):
    """The stream of training samples; item k >= 0 is draw k.

    Pass p = k // len(source) visits every image once, in an order that is seeded by (seed, p); the
    crop's generator is seeded by (seed, k).
    """

    def __init__(self, source: ImageSource, crop: Crop, seed: int) -> None:
        self.source = source
        self.crop = crop
        self.seed = seed
        self._pass = -1  # the pass whose order is at hand
        self._order: list[int] = []

    def __getitem__(self, k: int) -> Draw:
        index = self.image_index(k)
        crop = self.crop(self.source.pixels(index), seeded_generator(self.seed, CROP, k))
        return Draw(crop, self.source.name(index))

    def image_index(self, k: int) -> int:
        """Which image draw k shows."""
        number, position = divmod(k, len(self.source))
        if number != self._pass:
            generator = seeded_generator(self.seed, ORDER, number)
            self._order = torch.randperm(len(self.source), generator=generator).tolist()
            self._pass = number
        return self._order[position]


class DrawSampler(Sampler[int]):
    """The draw numbers from ``first`` on, without end: there are no epochs of random crops.

    Under torch.distributed rank r of W takes every W-th, beginning with r. Together the ranks'
    n-th batches are the n-th batch of one process with W times the batch size.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        rank, world_size = rank_and_world_size()
        return itertools.count(self.first + rank, world_size)


def rank_and_world_size() -> tuple[int, int]:
    """Of torch.distributed; (0, 1) without it."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
