"""The ways in which numbers of this field go wrong, each set up on purpose.

Every trap is a check that holds for this evaluator and a fall: the same evaluator with the one
mistake put into it. The check must pass without the fall and fail with it, so that a later change
that falls in is found.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.pool_codec import BITS, Pool, Signal, point, run

from lic_train.codec.bitstream import Bitstream
from lic_train.evaluation import measure as evaluation
from lic_train.rd import curves as rd
from lic_train.rd import metrics
from lic_train.rd import points as rd_points

Trap = tuple[Callable[[pytest.MonkeyPatch], None], Callable[[pytest.MonkeyPatch], None]]
TRAPS: dict[str, Trap] = {}
WORK = 0.25
"""Seconds that a kernel of the make-believe GPU below takes."""


def trap(fall: Callable[[pytest.MonkeyPatch], None]) -> Callable[..., None]:
    """Pair a check with its fall, under the check's name."""

    def register(check: Callable[[pytest.MonkeyPatch], None]) -> None:
        TRAPS[check.__name__] = (check, fall)

    return register


def image(height: int = 13, width: int = 17) -> Signal:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return Signal("a", pixels)


def floats_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
        return -10 * math.log10((a.double() - b.double()).square().mean().item() / 255**2)

    monkeypatch.setattr(evaluation, "to_uint8", lambda x: x.clamp(0, 1) * 255)
    monkeypatch.setattr(metrics, "psnr", psnr)
    monkeypatch.setattr(metrics, "ms_ssim", lambda a, b: math.nan)


@trap(floats_are_measured)
def float_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 levels off everywhere is, once saved, the original itself: on floats it is 58.6 dB."""
    fine = run(Pool(offset=0.3 / 255), [image()])[-1]
    assert fine.psnr == math.inf
    # And 0.6 levels off is one whole level off.
    fine = run(Pool(offset=0.6 / 255), [image()])[-1]
    assert fine.psnr == pytest.approx(20 * math.log10(255), abs=0.1)


def padding_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def bpp(count: int, width: int, height: int, images: int = 1) -> float:
        return 8 * count / (images * -(-width // 4) * 4 * -(-height // 4) * 4)

    monkeypatch.setattr(metrics, "bpp", bpp)


@trap(padding_is_counted)
def padded_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec pads 17x13 to 20x16; a rate over 320 pixels would look 31 % lower."""
    for p in run(Pool(), [image()]):
        assert p.bpp * 17 * 13 == pytest.approx(8 * p.bytes)


def estimates_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    original = evaluation.RDPoint

    def lie(**columns: object) -> evaluation.RDPoint:
        row = original(**columns)  # type: ignore[arg-type]
        return replace(row, bpp=row.bpp_estimated)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "RDPoint", lie)


@trap(estimates_are_reported)
def estimated_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likelihoods claim 3 bits a sample of noise, the file holds 8."""
    fine = run(Pool(), [image()])[-1]
    assert fine.bpp > 24
    assert fine.bpp_estimated is not None and fine.bpp_estimated < 3 * BITS * 1.2


def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "clock", lambda device: time.perf_counter())


@trap(nobody_waits)
def unsynchronised_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose calls return at once: the work is done when somebody waits for it."""
    now, queued = [100.0], [0.0]

    def wait(device: object = None) -> None:
        now[0] += queued[0]
        queued[0] = 0.0

    class Queues(Pool):
        def pool(self, x: torch.Tensor, rate: int) -> torch.Tensor:
            queued[0] += WORK
            return super().pool(x, rate)

        def decode(self, chunks: list[bytes], shape: tuple[int, ...], rate: int) -> torch.Tensor:
            queued[0] += 2 * WORK
            return super().decode(chunks, shape, rate)

        def estimate(self, x: torch.Tensor, rate: int = -1) -> float:
            queued[0] += 4 * WORK  # not to be waited for in anybody's time
            return 1.0

    real = evaluation.clock
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(evaluation, "clock", lambda device: real("cuda"))
    for p in run(Queues(), [image()]):
        assert (p.encode_s, p.decode_s) == (WORK, 2 * WORK)


def streams_are_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bitstream, "to_bytes", lambda stream: pickle.dumps(stream))
    monkeypatch.setattr(Bitstream, "from_bytes", pickle.loads)


@trap(streams_are_pickled)
def pickle_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle of a stream holds names of classes and fields, of a batch also tensors."""
    codec, signal = Pool(), image()
    (coarse, fine) = run(codec, [signal])
    for p in (coarse, fine):
        coded = sum(map(len, codec.encode(signal.pixels[None].float() / 255, p.rate)))
        assert coded < p.bytes <= coded + 32


def decibels_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    def pooled(values: list[float]) -> float:
        if max(values) <= 1:  # of MS-SSIM: leave it, and take dB later
            return sum(values) / len(values)
        return -10 * math.log10(sum(10 ** (-v / 10) for v in values) / len(values))

    monkeypatch.setattr(np, "mean", pooled)


@trap(decibels_are_pooled)
def averages_of_decibels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 and 40 dB the mean is 30; of the mean of their errors it would be 23."""
    rows = [point("a", psnr=20.0, ms_ssim=0.9), point("b", psnr=40.0, ms_ssim=0.999)]
    (mean,) = rd_points.summary(rows)["points"]
    curve = rd.mean_curve(rows, "pool")
    assert mean["psnr"] == pytest.approx(30) and curve.psnr == pytest.approx([30])
    assert mean["ms_ssim_mean_of_db"] == pytest.approx(20)
    assert curve.ms_ssim_mean_of_db == pytest.approx([20])
    assert mean["ms_ssim_db_of_mean"] == pytest.approx(-10 * math.log10(1 - 0.9495))
    assert curve.ms_ssim_db_of_mean == pytest.approx([mean["ms_ssim_db_of_mean"]])


@pytest.mark.parametrize("name", TRAPS)
def test_the_evaluator_is_in_no_trap(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, _ = TRAPS[name]
    check(monkeypatch)


@pytest.mark.parametrize("name", TRAPS)
def test_the_check_would_find_the_fall(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, fall = TRAPS[name]
    fall(monkeypatch)
    with pytest.raises(AssertionError):
        check(monkeypatch)
