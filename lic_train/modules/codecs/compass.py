"""COMPASS: one file, several sizes of the image, each predicted from the one below it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.bitstream import read_varints, varint
from lic_train.codec.contract import Shape
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.base.transform import TransformCodec, joined, refuse_rates
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.layers.liff import LIFF

Size = tuple[int, int]
CHECK_BYTES = 2


class Compass(Codec):
    """Park, Lee, Kim 2023, "COMPASS: High-Efficiency Deep Image Compression with Arbitrary-scale
    Spatial Scalability" (ICCV 2023; LIFF's features are arXiv 1802.08797).

    ::

        x -> resize -> x_0 -------------> base -----------------------> x_hat_0
        x -> resize -> x_1 -> x_1 - P_1 -> residual -> + P_1 ---------> x_hat_1
                       P_1 = predictor(x_hat_0)
        x -> resize -> x_2 -> x_2 - P_2 -> residual -> + P_2 ---------> x_hat_2
                       P_2 = predictor(x_hat_1)            ... any number of layers

    One predictor and one residual codec serve all layers. Rate r is layer r at its own size; its
    file is the beginning of every finer one's, and holds the sizes, so ``scales`` may differ
    between encoder and decoder. Nothing is clamped or rounded between layers. Not reproduced: the
    official code's constant cell of the second layer, the authors' pre-trained parts and data.

    Args:
        base: codes the smallest layer.
        residual: codes the residual of the prediction of a layer, signed.
        predictor: from one layer to the next.
        scales: of the layers, in sides of the whole image: growing, in (0, 1].
        scale_ranges: what a training batch draws them from: (lowest, highest) of each layer.
        base_weight: share of the base layer in the loss; 0 where it is frozen, as in the paper.
        layer_weight: share of every other layer.
        prediction_weight: above 0, the predictions themselves are trained: they follow the layers
            in what ``forward`` returns.

    Raises:
        ModelError: scales or ranges that are no such thing, or parts of several rates.
    """

    def __init__(
        self,
        base: TransformCodec,
        residual: TransformCodec,
        predictor: LIFF,
        scales: Sequence[float] = (0.25, 0.5, 1.0),
        scale_ranges: Sequence[Sequence[float]] = ((0.25, 0.25), (0.25, 0.5), (0.5, 1.0)),
        base_weight: float = 1.0,
        layer_weight: float = 1.0,
        prediction_weight: float = 0.0,
    ) -> None:
        super().__init__()
        refuse_rates(base, residual)
        residual.begin_signed()
        self.base, self.residual, self.predictor = base, residual, predictor
        self.scales = growing(scales)
        self.scale_ranges = [(low, high) for low, high in scale_ranges]
        if any(not 0 < low <= high <= 1 for low, high in self.scale_ranges):
            raise ModelError(f"scale_ranges are {self.scale_ranges}: give 0 < low <= high <= 1")
        self.num_rates = len(self.scales)
        self.base_weight, self.layer_weight = base_weight, layer_weight
        self.prediction_weight = prediction_weight

    # --- sizes -------------------------------------------------------------------------------
    def sizes(self, x: Tensor) -> list[Size]:
        """Height and width of each layer; in training drawn anew, from torch's generator."""
        scales: Sequence[float] = self.scales
        if self.training:
            draws = torch.rand(len(self.scale_ranges)).tolist()
            ranges = zip(self.scale_ranges, draws, strict=True)
            scales = sorted(low + (high - low) * draw for (low, high), draw in ranges)
        height, width = x.shape[-2:]
        return [(max(1, int(height * s)), max(1, int(width * s))) for s in scales]

    def reference(self, x: Tensor, rate: int = -1) -> Tensor:
        return resized(x, self.sizes(x)[rate])

    # --- the layers --------------------------------------------------------------------------
    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.training or len(x) == 1:
            return self._layers(x)
        # One by one, as they are coded: a convolution of several may differ in the last bit, and
        # what differs here goes through every layer above.
        images = [self._layers(image) for image in x.split(1)]
        return [joined(list(parts)) for parts in zip(*images, strict=True)]

    def _layers(self, x: Tensor) -> list[Reconstruction]:
        layers: list[Reconstruction] = []
        predictions: list[Reconstruction] = []
        for k, size in enumerate(self.sizes(x)):
            target = resized(x, size)
            if k == 0:
                (own,) = self.base(target)
                x_hat = own.x_hat.float()
            else:
                prediction = self._predict(x_hat, size)
                (own,) = self.residual(target - prediction)
                x_hat = prediction + own.x_hat.float()
                name, weight = f"prediction{k}", self.prediction_weight
                predictions.append(Reconstruction(prediction, target, {}, name, weight))
            weight = self.layer_weight if k else self.base_weight
            layers.append(Reconstruction(x_hat, target, own.likelihoods, f"layer{k}", weight))
        return layers + predictions if self.prediction_weight > 0 else layers

    def _predict(self, x_hat: Tensor, size: Size) -> Tensor:
        if self.training:
            return self.predictor(x_hat, size).float()
        return exactly(self.predictor, x_hat, size=size).float()

    # --- the file ----------------------------------------------------------------------------
    def chunks_at(self, rate: int) -> int:
        return self.base.num_chunks + rate * self.residual.num_chunks

    def decodes(self, rate: int) -> bool:
        return True  # of any number of layers: the stream says how many it has

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        chunks: list[bytes] = []
        for k, size in enumerate(self.sizes(x)[: int(rate) + 1]):
            target = resized(x, size)
            if k == 0:
                own = self.base.encode(target, 0)
                x_hat = self.base.decode(own, target.shape, 0)
            else:
                prediction = self._predict(x_hat, size)
                own = self.residual.encode(target - prediction, 0)
                x_hat = prediction + self.residual.decode(own, target.shape, 0)
            chunks += [_size_bytes(size) + own[0], *own[1:]]
        return chunks

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(chunks) != self.chunks_at(rate) or len(shape) != 4 or shape[1] != 3:
            raise BitstreamError("the stream does not hold what this codec writes")
        x_hat, size = torch.empty(0), (1, 1)
        for k in range(rate + 1):
            first, last = self.chunks_at(k - 1) if k else 0, self.chunks_at(k)
            smaller, (size, rest) = size, _split_size(chunks[first])
            if not (smaller[0] <= size[0] <= shape[2] and smaller[1] <= size[1] <= shape[3]):
                raise BitstreamError(f"a layer of the stream has the size {size}: it is malformed")
            own, layer = [rest, *chunks[first + 1 : last]], (1, 3, *size)
            if k == 0:
                x_hat = self.base.decode(own, layer, 0)
            else:
                x_hat = self._predict(x_hat, size) + self.residual.decode(own, layer, 0)
        return x_hat


def growing(scales: Sequence[float]) -> tuple[float, ...]:
    """The scale factors of the layers, checked.

    Raises:
        ModelError: they are none, do not grow, or are not in (0, 1].
    """
    try:
        values = tuple(float(s) for s in scales)
    except (TypeError, ValueError):
        raise ModelError(f"scales are {scales}: give a list of numbers") from None
    steps: Any = zip((0.0, *values), (*values, 1.0), strict=True)
    if not values or values[-1] > 1 or any(not a < b for a, b in list(steps)[:-1]):
        raise ModelError(
            f"scales are {list(values)}: each must be above the one before it, from above 0 to 1"
        )
    return values


@torch.no_grad()
def resized(x: Tensor, size: Size) -> Tensor:
    """``x`` at another size by antialiased bicubic interpolation, on 8-bit levels in [0, 1]; at
    its own size x itself."""
    if x.shape[-2:] == size:
        return x
    with torch.autocast(x.device.type, enabled=False):
        small = F.interpolate(x.float(), size, mode="bicubic", antialias=True)
    return small.clamp(0, 1).mul(255).round().div(255)


def _size_bytes(size: Size) -> bytes:
    """A layer's size and a check of it: a size that is one off decodes to an image as well."""
    head = varint(size[0]) + varint(size[1])
    return head + _check(head)


def _split_size(chunk: bytes) -> tuple[Size, bytes]:
    (height, width), end = read_varints(chunk, 0, 2)
    if chunk[end : end + CHECK_BYTES] != _check(chunk[:end]):
        raise BitstreamError("a layer's size does not match its check: the stream is malformed")
    return (height, width), chunk[end + CHECK_BYTES :]


def _check(head: bytes) -> bytes:
    return zlib.crc32(head).to_bytes(4, "little")[:CHECK_BYTES]
