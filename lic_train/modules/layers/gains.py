"""Gains around the latents make one codec serve a ladder of rates: one vector per rate and side."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lic_train.errors import BitstreamError, ModelError

MOST_RATES = 64
TICKS = 4096
"""Rates in a file are multiples of 1/4096."""
HEAD_BYTES, CHECK_BYTES = 2, 2


def ladder(rates: int, lmbdas: Sequence[float]) -> tuple[float, ...]:
    """The lambda of each rate.

    Args:
        rates: how many, 2 or more.
        lmbdas: one for each rate, or the first and the last: then those between are geometric.

    Raises:
        ModelError: there are too many rates, another number of lambdas than rates, or lambdas that
            do not rise from above 0.
    """
    given = [float(value) for value in lmbdas]
    if not 2 <= rates <= MOST_RATES:
        raise ModelError(f"rates is {rates}: give 1 ... {MOST_RATES}")
    if any(not a < b for a, b in zip([0.0, *given], [*given, math.inf], strict=True)):
        raise ModelError(f"lmbdas are {given}: each must be above the one before it, from above 0")
    if len(given) == rates:
        return tuple(given)
    if len(given) != 2:
        raise ModelError(
            f"there are {len(given)} lmbdas for {rates} rates: give one for each rate, or the "
            "first and the last"
        )
    first, last = given
    return tuple(first * (last / first) ** (rate / (rates - 1)) for rate in range(rates))


class RateGains(nn.Module):
    """Gains of y before it is quantised, and of y_hat after it is decoded, for every rate.

    ::

        y -> * gain of y at the rate -> (coded) -> * gain of y_hat at the rate -> y_hat

    Cui, Wang, Gao, Feng, Bai 2021, "Asymmetric Gained Deep Image Compression With Continuous Rate
    Adaptation" (CVPR 2021). Between two rates, logarithms of gains are interpolated linearly. Both
    gains begin where lambda wants the quantiser's step, at the square root of lambda and its
    inverse, see :func:`.wavelet.gain_of`.

    Args:
        channels: M, of y.
        lmbdas: the trade-off of each rate, rising, see :func:`ladder`.
    """

    def __init__(self, channels: int, lmbdas: Sequence[float]) -> None:
        super().__init__()
        self.lmbdas = tuple(lmbdas)
        start = torch.tensor([0.5 * math.log(value / self.middle) for value in self.lmbdas])
        logs = start[:, None].repeat(1, channels)
        self.of_y = nn.Parameter(logs)  # natural logarithms, (rates, M)
        self.of_y_hat = nn.Parameter(-logs)

    @property
    def middle(self) -> float:
        """The trade-off at which gains begin as 1: that in the middle of the ladder."""
        return math.sqrt(self.lmbdas[0] * self.lmbdas[-1])

    def analysis(self, rates: Tensor) -> Tensor:
        """What y is multiplied by, ``(N, M, 1, 1)``, at rates ``(N,)``, which may be real."""
        return self._between(self.of_y, rates)

    def synthesis(self, rates: Tensor) -> Tensor:
        """What y_hat is multiplied by, ``(N, M, 1, 1)``, at rates ``(N,)``, which may be real."""
        return self._between(self.of_y_hat, rates)

    def _between(self, logs: Tensor, rates: Tensor) -> Tensor:
        # Out of training in float64 and rounded then: every machine finds the same float32.
        logs = logs if self.training else logs.double()
        below = rates.floor().long().clamp(max=len(self.lmbdas) - 2)
        share = (rates - below).to(logs)[:, None]
        return torch.lerp(logs[below], logs[below + 1], share).exp().float()[:, :, None, None]

    def drawn(self, count: int) -> Tensor:
        """Whole rates for the images of a training batch, ``(count,)``, from torch's generator:
        spread over the ladder as evenly as they can be, in random order."""
        where = (torch.arange(count) + torch.rand(())) / count * len(self.lmbdas)
        return where.long().clamp(max=len(self.lmbdas) - 1)[torch.randperm(count)]

    def lmbdas_of(self, rates: Tensor) -> Tensor:
        """The trade-off of whole rates ``(N,)``."""
        return torch.tensor(self.lmbdas)[rates]


def rate_as_coded(rate: float) -> float:
    """The rate that a file holds for this one: the nearest multiple of 1/4096."""
    return round(rate * TICKS) / TICKS


def rate_head(rate: float) -> bytes:
    """How far the rate is below the next whole one, which the file's header holds, and a check of
    it: another gain would decode to an image as well."""
    ticks = round(rate * TICKS)
    return (math.ceil(rate) * TICKS - ticks).to_bytes(HEAD_BYTES, "little") + _check(ticks)


def split_rate(chunk: bytes, whole: int) -> tuple[float, bytes]:
    """The rate at the beginning of a chunk, and the rest of it.

    Args:
        chunk: a chunk that begins with a :func:`rate_head`.
        whole: the next whole rate, from the file's header.

    Raises:
        BitstreamError: the rate does not match its check.
    """
    below, end = int.from_bytes(chunk[:HEAD_BYTES], "little"), HEAD_BYTES + CHECK_BYTES
    ticks = whole * TICKS - below
    if not 0 <= below <= TICKS or ticks < 0 or chunk[HEAD_BYTES:end] != _check(ticks):
        raise BitstreamError("the stream's rate does not match its check: it is malformed")
    return ticks / TICKS, chunk[end:]


def _check(ticks: int) -> bytes:
    return zlib.crc32(ticks.to_bytes(4, "little")).to_bytes(4, "little")[:CHECK_BYTES]
