"""Progressive binary codes: every iteration sends some bits more about what is still wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape
from lic_train.errors import BitstreamError
from lic_train.modules.entropy.bits import (
    decode_signs,
    encode_signs,
    pack_numbers,
    snap_probabilities,
    unpack_numbers,
)
from lic_train.modules.entropy.exact import in_float64
from lic_train.modules.layers.binarizer import Binarizer
from lic_train.modules.layers.bit_context import BitContext, Forecast, likelihood_of, nothing_known
from lic_train.modules.layers.padding import Grid

Network = Callable[[Tensor, Any], tuple[Tensor, Any]]

SPAN = 0.9
"""Networks see images in [-0.9, 0.9]: tanh reaches that."""


class ProgressiveCodec(Codec):
    """The loop of Toderici et al. 2016 (arXiv 1511.06085), whatever its networks are.

    ::

        r_0 = x;  b_t = B(E_t(r_{t-1}));  x_hat_t = D_t(b_t)                  one-shot
                                          x_hat_t = x_hat_{t-1} + D_t(b_t)    additive
        r_t = x - x_hat_t

    A file holds one chunk of raw bits per iteration, so that its first chunks are the file of a
    lower rate, and before them one that is empty unless :attr:`target_psnr` was set when it was
    made: then it says how many iterations each tile got. Every pattern of bits is the file of some
    image: damage beyond a wrong length is seen by the checksum of the file alone. With ``context``
    the bits of an iteration are entropy coded given those before, where that makes them fewer.

    Args:
        encoder: ``(residual (N, 3, H, W), state) -> (y (N, bits, H/stride, W/stride), state)``,
            y in [-1, 1], the state None at an image's first iteration.
        decoder: ``(b, state) -> (image or residual (N, 3, H, W), state)``.
        bits: channels of the code.
        stride: pixels a side that one position of the code stands for.
        iterations: that are trained and can be sent.
        additive: whether reconstructions add up; else every iteration gives the whole image.
        tile: side in pixels of squares that are coded independently; None codes the image whole.
        target_psnr: see the attribute.
        context: channels of the net that predicts bits from bits; 0: bits are sent as they are.
        code_bits: False does not use it, to see what it saves.
    """

    own_lmbda = True
    target_psnr: float | None
    """dB at which a tile (without tiles: the image) gets no further iterations; None sends all.
    It concerns coding alone, so it can be set on a trained codec."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        bits: int,
        stride: int,
        iterations: int,
        additive: bool,
        tile: int | None = None,
        target_psnr: float | None = None,
        context: int = 0,
        code_bits: bool = True,
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}, there is at least 1")
        if tile is not None and (tile < 1 or tile % stride):
            raise ValueError(f"tile is {tile}, it must be a multiple of {stride}, or null")
        self.encoder, self.decoder = encoder, decoder
        self.binarizer = Binarizer()
        alone = tile == stride  # one position a tile: it has no neighbours
        self.context = BitContext(bits, context, 1 if alone else 3) if context else None
        self.code_bits = code_bits
        self.bits, self.stride, self.tile = bits, stride, tile
        self.num_rates, self.additive = iterations, additive
        self.target_psnr = target_psnr
        self.count_bits = (iterations - 1).bit_length()

    def steps(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Bits, -1 and +1, and x_hat of each iteration for x ``(N, 3, H, W)``, whole strides."""
        image = SPAN * (2 * x - 1)
        image_hat, of_encoder, of_decoder = torch.zeros_like(image), None, None
        encoder, decoder = self._network(self.encoder), self._network(self.decoder)
        for _ in range(self.num_rates):
            y, of_encoder = encoder(image - image_hat, of_encoder)
            b = self.binarizer(y)
            decoded, of_decoder = decoder(b, of_decoder)
            image_hat = image_hat + decoded if self.additive else decoded
            yield b, _unscaled(image_hat)

    def _network(self, module: nn.Module) -> Network:
        """In eval in float64: errors grow from one iteration to the next, and in float32 other
        machines and numbers of threads would see other signs and other images."""
        if self.training:
            return lambda x, state: _float32(module(x, state))
        exact = in_float64(module)
        return lambda x, state: _float32(exact(x.double(), state))

    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.training:
            return self._reconstruct(x)
        # One image at a time as in coding: in a batch a float may get another last bit, and that
        # may be the one that decides a sign.
        parts = [self._reconstruct(image) for image in x.split(1)]
        return [_together(same) for same in zip(*parts, strict=True)]

    def _reconstruct(self, x: Tensor) -> list[Reconstruction]:
        grid = self._grid(x.shape)
        coded = list(self.steps(grid.split(x)))
        counts = self._counts([x_hat for _, x_hat in coded], x, grid)
        shown, reconstructions = torch.zeros_like(coded[0][1]), []
        forecast = self._forecast(coded[0][0])
        for t, (b, x_hat) in enumerate(coded):
            going_on = counts > t
            shown = torch.where(going_on[:, None, None, None], x_hat, shown)
            likelihoods = {"bits": self._likelihood(b, forecast)[going_on]}
            if t == 0 and self._stops():
                likelihoods["counts"] = torch.full_like(counts, 0.5**self.count_bits, dtype=b.dtype)
            image = grid.join(shown, *x.shape[-2:])
            weight = 1 / self.num_rates
            reconstructions.append(Reconstruction(image, x, likelihoods, f"iter{t:02d}", weight))
        return reconstructions

    def _likelihood(self, b: Tensor, forecast: Forecast) -> Tensor:
        """Of the bits of the next iteration: in eval those that the coder has."""
        logits = forecast.next()
        forecast.seen(b)
        if self.training:
            return likelihood_of(b, logits)
        probabilities = snap_probabilities(logits)
        return torch.where(b > 0, probabilities, 1 - probabilities).to(b)

    def _forecast(self, like: Tensor) -> Forecast:
        if self.context is None or not self.code_bits:
            return Forecast(nothing_known, like)
        return Forecast(self._network(self.context), like)

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        grid = self._grid(x.shape)
        # Where a tile stops is the same at every rate, or a prefix would not be a lower rate.
        needed = self.num_rates if self._stops() else int(rate) + 1
        coded = list(islice(self.steps(grid.split(x)), needed))
        counts = self._counts([x_hat for _, x_hat in coded], x, grid)
        first = pack_numbers(counts - 1, self.count_bits) if self._stops() else b""
        forecast, chunks = self._forecast(coded[0][0]), [first]
        for t, (b, _) in enumerate(coded[: int(rate) + 1]):
            going_on = counts > t
            chunks.append(encode_signs(b[going_on], snap_probabilities(forecast.next())[going_on]))
            forecast.seen(b)
        return chunks

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(chunks) != self.chunks_at(rate) or len(shape) != 4 or shape[1] != 3:
            raise BitstreamError("the stream does not hold what this codec writes")
        grid, device = self._grid(shape), next(self.parameters()).device
        tiles = grid.rows * grid.columns
        if chunks[0]:
            counts = 1 + unpack_numbers(chunks[0], tiles, self.count_bits)
        else:
            counts = torch.full((tiles,), self.num_rates)
        if counts.max() > self.num_rates:
            raise BitstreamError("the stream holds more iterations than this codec has")
        size = (self.bits, grid.height // self.stride, grid.width // self.stride)
        image_hat, state = torch.zeros(tiles, 3, grid.height, grid.width, device=device), None
        shown, decoder = image_hat, self._network(self.decoder)
        forecast = self._forecast(torch.empty(tiles, *size, device=device))
        for t, chunk in enumerate(chunks[1:]):
            going_on = counts > t
            # Tiles that have stopped get some bits or other: the same shapes as in the
            # encoder give the same floats.
            b = torch.ones(tiles, *size, device=device)
            b[going_on] = decode_signs(chunk, snap_probabilities(forecast.next())[going_on]).to(
                device
            )
            forecast.seen(b)
            decoded, state = decoder(b, state)
            image_hat = image_hat + decoded if self.additive else decoded
            shown = torch.where(going_on[:, None, None, None].to(device), image_hat, shown)
        return grid.join(_unscaled(shown), *shape[-2:])

    def chunks_at(self, rate: int) -> int:
        return rate + 2

    def _grid(self, shape: Shape) -> Grid:
        return Grid.cover(shape[-2], shape[-1], self.stride, self.tile)

    def _stops(self) -> bool:
        return self.target_psnr is not None and not self.training

    def _counts(self, x_hats: list[Tensor], x: Tensor, grid: Grid) -> Tensor:
        """How many iterations each tile is sent, ``(tiles,)`` int64: until the target is met."""
        tiles = x_hats[0].shape[0]
        if self.target_psnr is None or self.training:
            return torch.full((tiles,), self.num_rates, device=x.device)
        shown = [(255 * x_hat.clamp(0, 1)).round() / 255 for x_hat in x_hats]  # what users measure
        missed = torch.stack([grid.mse(x_hat, x) for x_hat in shown]) > 0.1 ** (
            self.target_psnr / 10
        )
        return (1 + missed.long().cumprod(0).sum(0)).clamp(max=self.num_rates)


def _float32(result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """What a network said, in float32; what it remembers, as it is."""
    said, state = result
    return said.float(), state


def _unscaled(image: Tensor) -> Tensor:
    return (image / SPAN + 1) / 2


def _together(parts: tuple[Reconstruction, ...]) -> Reconstruction:
    """The reconstructions of several images as that of their batch."""
    return parts[0]._replace(
        x_hat=torch.cat([part.x_hat for part in parts]),
        target=torch.cat([part.target for part in parts]),
        likelihoods={
            name: torch.cat([part.likelihoods[name] for part in parts])
            for name in parts[0].likelihoods
        },
    )
