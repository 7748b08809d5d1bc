"""Rate control finds the file that meets a target of bits per pixel or of PSNR.

Both are measured on the file as a report would: bits per pixel of the whole file, header included,
at the pixels of the reference; PSNR of the 8-bit image that is decoded from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import num_pixels, to_uint8
from lic_train.errors import ModelError
from lic_train.rd import metrics

HALVINGS = 10
"""How often the interval between two whole rates is halved, for codecs with ``real_rates``."""
NEAR_BPP, NEAR_PSNR = 0.005, 0.01
"""Halving stops this near: 0.5 % below a bits-per-pixel target, 0.01 dB above a PSNR target."""


class RateControlResult(NamedTuple):
    """The file that meets a target.

    Attributes:
        stream: the file.
        rate: its rate; not whole only for codecs with ``real_rates``.
        psnr: dB, of what it decodes to against the reference.
    """

    stream: Bitstream
    rate: float
    psnr: float


class Streams:
    """The files of one signal at any rate, each made once.

    If the rates of the codec build on each other, coarser files are cut from the finest.

    Args:
        codec: in eval mode, its tables fixed.
        x: ``(N, ...)`` in [0, 1].
    """

    def __init__(self, codec: Codec, x: Tensor) -> None:
        self.codec, self.x = codec, x
        self._kept: dict[float, Bitstream] = {}

    def at(self, rate: float) -> Bitstream:
        """Return the file of a rate of 0 or more, coded or cut at the first call.

        Raises:
            ModelError: as ``Codec.compress``.
        """
        if rate not in self._kept:
            finest = self.codec.num_rates - 1
            if 0 <= rate < finest and rate == int(rate) and self.codec.chunks_at(int(rate)):
                self._kept[rate] = self.codec.cut(self.at(finest), int(rate))
            else:
                self._kept[rate] = self.codec.compress(self.x, rate)
        return self._kept[rate]

    def bpp(self, rate: float) -> float:
        """Return the bits of the whole file per pixel of the reference.

        Raises:
            ModelError: as ``Codec.compress``.
        """
        reference = self.codec.reference(self.x, math.ceil(rate))
        pixels = num_pixels(reference)
        return 8 * len(self.at(rate).to_bytes()) / pixels

    def psnr(self, rate: float) -> float:
        """Return the PSNR in dB of the decoded 8-bit signal against the 8-bit reference.

        Raises:
            ModelError: as ``Codec.compress``.
        """
        decoded = self.codec.decompress(self.at(rate))
        reference = self.codec.reference(self.x, math.ceil(rate))
        return metrics.psnr(to_uint8(decoded), to_uint8(reference))


def meet(
    codec: Codec,
    x: Tensor,
    *,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
) -> RateControlResult:
    """Compress at the rate that just meets a target of bits per pixel or of PSNR.

    This is the largest rate of at most ``target_bpp``, or the smallest that reaches
    ``target_psnr``. Whole rates are bisected, as bits and PSNR do not fall when the rate rises,
    then the real ones between two of them if the codec has ``real_rates``.

    Args:
        codec: in eval mode, its tables fixed.
        x: ``(N, ...)`` in [0, 1]; a batch is treated as one signal.
        target_bpp: bits per pixel of the whole file, above 0. Give either this or ``target_psnr``.
        target_psnr: dB, above 0.

    Raises:
        ModelError: no rate meets the target (the text names the nearest one), or the target is not
            a positive number.
        ValueError: neither or both targets are given.
    """
    streams = Streams(codec, x)
    if target_bpp is not None and target_psnr is None:
        search = _Search(streams.bpp, target_bpp, "bpp", NEAR_BPP * target_bpp, finest=True)
    elif target_psnr is not None and target_bpp is None:
        search = _Search(streams.psnr, target_psnr, "dB", NEAR_PSNR, finest=False)
    else:
        raise ValueError("give either target_bpp or target_psnr")
    if not (math.isfinite(search.target) and search.target > 0):
        raise ModelError(f"the target is {search.target:g} {search.unit}: give a number above 0")
    last = codec.num_rates - 1
    sizes = {codec.reference(x, rate).shape for rate in range(last + 1)}
    # Of layers of several sizes, neither bits per pixel nor PSNR need rise: try each.
    rate = search.bisect(last) if len(sizes) == 1 else search.scan(last)
    if rate is None:
        nearest = min(search.values, key=lambda r: abs(search.values[r] - search.target))
        raise ModelError(
            f"no rate of 0 ... {last} meets {search.target:g} {search.unit}: the nearest is rate "
            f"{nearest:g} with {search.values[nearest]:.4g} {search.unit}"
        )
    best = search.refine(rate, last) if codec.real_rates else rate
    return RateControlResult(streams.at(best), best, streams.psnr(best))


class _Search:
    """For the finest rate whose value is at most the target, or the coarsest that reaches it."""

    def __init__(
        self,
        measure: Callable[[float], float],
        target: float,
        unit: str,
        near: float,
        finest: bool,
    ) -> None:
        self.measure, self.target, self.unit = measure, target, unit
        self.near, self.finest = near, finest
        self.values: dict[float, float] = {}

    def meets(self, rate: float) -> bool:
        if rate not in self.values:
            self.values[rate] = self.measure(rate)
        value = self.values[rate]
        return value <= self.target if self.finest else value >= self.target

    def scan(self, last: int) -> int | None:
        met = [rate for rate in range(last + 1) if self.meets(rate)]
        return (max(met) if self.finest else min(met)) if met else None

    def bisect(self, last: int) -> int | None:
        """Where the rates that meet the target are 0 ... r, or r ... last: r."""
        below, above = -1, last + 1
        while above - below > 1:
            middle = (below + above) // 2
            if self.meets(middle) == self.finest:
                below = middle
            else:
                above = middle
        rate = below if self.finest else above
        return rate if 0 <= rate <= last else None

    def refine(self, rate: float, last: int) -> float:
        """From a whole rate that meets the target towards its neighbour that does not."""
        other = rate + 1 if self.finest else rate - 1
        for _ in range(HALVINGS if 0 <= other <= last else 0):
            if abs(self.values[rate] - self.target) <= self.near:
                break
            middle = (rate + other) / 2
            if self.meets(middle):
                rate = middle
            else:
                other = middle
        return rate
