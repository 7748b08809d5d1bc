"""A small codec that really codes, and rows of it."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.rd.points import RDPoint

BITS = 3.0  # what every latent of the codec below pretends to cost


class Pool(Codec):
    """Averages blocks of 4x4, then of 1x1 pixels, to bytes that zlib packs. It really codes."""

    num_rates = 2
    blocks = (4, 1)

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def pool(self, x: Tensor, rate: int) -> Tensor:
        block, (height, width) = self.blocks[rate], x.shape[-2:]
        x = pad(x, (0, -width % block, 0, -height % block), mode="replicate")
        return avg_pool2d(x, block).mul(255).round()

    def forward(self, x: Tensor) -> list[Reconstruction]:
        out = []
        for rate in range(self.num_rates):
            y = self.pool(x, rate)
            x_hat = self.decode([self.pack(y)], tuple(x.shape), rate)
            out.append(Reconstruction(x_hat, x, {"y": torch.full_like(y, 2**-BITS)}))
        return out

    @staticmethod
    def pack(y: Tensor) -> bytes:
        return zlib.compress(y.byte().numpy().tobytes())

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        return [self.pack(self.pool(x, rate))]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        block, (height, width) = self.blocks[rate], shape[-2:]
        y = torch.frombuffer(bytearray(zlib.decompress(chunks[0])), dtype=torch.uint8)
        y = y.reshape(1, shape[1], -(-height // block), -(-width // block)).float() / 255
        x = y.repeat_interleave(block, -1).repeat_interleave(block, -2)[..., :height, :width]
        return x + self.offset


class Signal(NamedTuple):
    name: str
    pixels: Tensor


def ready(codec: Codec) -> Codec:
    codec.eval()
    codec.update()
    return codec


def run(codec: Codec, signals: list[Signal], **options: object) -> list[RDPoint]:
    labels = Labels("set", "pool", 0.01)
    return evaluate(ready(codec), signals, labels, **options).points  # type: ignore[arg-type]


def point(image: str = "a", codec: str = "pool", **values: object) -> RDPoint:
    row = RDPoint(
        "set", image, codec, 0, None, 16, 8, 32, 2.0, None, 30.1, math.nan, 0.1, 0.2, "cpu"
    )
    return replace(row, **values)  # type: ignore[arg-type]
