"""Codecs of fixed steps, for whatever picks a rate."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape


class Steps(Codec):
    """A yardstick: pixels on a grid of step 64 / 2^rate, packed by zlib; any real rate."""

    num_rates = 6
    real_rates = True

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.coded: list[float] = []

    def forward(self, x: Tensor) -> list[Reconstruction]:
        return [Reconstruction(x, x, {})]

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        self.coded.append(rate)
        step = 64 / 2**rate
        levels = (x * 255 / step).round().to(torch.int16)
        return [f"{step:.9f}".encode(), zlib.compress(levels.numpy().tobytes(), 9)]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        levels = torch.frombuffer(bytearray(zlib.decompress(chunks[1])), dtype=torch.int16)
        return levels.reshape(shape) * float(chunks[0]) / 255


class WholeSteps(Steps):
    """The same at whole rates alone."""

    real_rates = False


class Planes(Steps):
    """Its rates build on each other: rate r holds the r + 1 top bits of each pixel."""

    real_rates = False

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        self.coded.append(rate)
        levels = (x * 255).round().to(torch.uint8)
        planes = [(levels >> 7 - r & 1).numpy().tobytes() for r in range(int(rate) + 1)]
        return [zlib.compress(plane) for plane in planes]

    def chunks_at(self, rate: int) -> int:
        return rate + 1

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        planes = [
            torch.frombuffer(bytearray(zlib.decompress(c)), dtype=torch.uint8) for c in chunks
        ]
        levels = sum(plane.int() << 7 - r for r, plane in enumerate(planes))
        return (levels.reshape(shape) + (1 << 6 - rate)) / 255


class Layers(WholeSteps):
    """Rate 0 is an image of a quarter of the size: more bits per pixel, though fewer bits."""

    num_rates = 2

    def reference(self, x: Tensor, rate: int = -1) -> Tensor:
        return avg_pool2d(x, 4) if rate % 2 == 0 else x

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        return super().encode(self.reference(x, int(rate)), 5 if rate == 0 else 1)

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        height, width = (side // 4 if rate == 0 else side for side in shape[-2:])
        return super().decode(chunks, (*shape[:2], height, width), rate)
