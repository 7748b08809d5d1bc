"""A target is met by the best rate there is, or one line says what comes nearest."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.stepped_codecs import Layers, Planes, Steps, WholeSteps
from helpers.zoo import Zoo
from torch import Tensor
from torch.nn.functional import interpolate

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import ready_copy
from lic_train.codec.signal import to_uint8
from lic_train.errors import ModelError
from lic_train.evaluation.rate_control import Streams, meet
from lic_train.rd import metrics


def photo() -> Tensor:
    """Smooth and noisy, so that PSNR and size differ at every step."""
    draw = torch.Generator().manual_seed(0)
    coarse = interpolate(torch.rand(1, 3, 6, 8, generator=draw), (40, 56), mode="bicubic")
    return (0.9 * coarse + 0.1 * torch.rand(1, 3, 40, 56, generator=draw)).clamp(0, 1)


LADDERS = pytest.mark.parametrize("kind", [WholeSteps, Planes, Layers])


@LADDERS
def test_every_target_gets_the_best_whole_rate(kind: type[Steps]) -> None:
    codec, x = ready_copy(kind()), photo()
    streams = [codec.compress(x, rate) for rate in range(codec.num_rates)]
    references = [codec.reference(x, rate) for rate in range(codec.num_rates)]
    bpp = [8 * len(s.to_bytes()) * 3 / r.numel() for s, r in zip(streams, references, strict=True)]
    psnr = [
        metrics.psnr(to_uint8(codec.decompress(s)), to_uint8(r))
        for s, r in zip(streams, references, strict=True)
    ]
    targets = [v * f for v in bpp for f in (0.999, 1, 1.001)] + [1e6]
    for target in targets:
        fits = [rate for rate in range(codec.num_rates) if bpp[rate] <= target]
        if fits:
            assert meet(codec, x, target_bpp=target).stream == streams[max(fits)]
        else:
            nearest = bpp.index(min(bpp))
            with pytest.raises(ModelError, match=f"nearest is rate {nearest} with .* bpp"):
                meet(codec, x, target_bpp=target)
    for target in [v + d for v in psnr for d in (-0.01, 0, 0.01)] + [1e-3]:
        fits = [rate for rate in range(codec.num_rates) if psnr[rate] >= target]
        if fits:
            assert meet(codec, x, target_psnr=target).stream == streams[min(fits)]
        else:
            nearest = psnr.index(max(psnr))
            with pytest.raises(ModelError, match=f"nearest is rate {nearest} with .* dB"):
                meet(codec, x, target_psnr=target)


def test_bits_are_coded_once_and_cut_where_rates_build_on_each_other() -> None:
    planes, steps, x = ready_copy(Planes()), ready_copy(WholeSteps()), photo()
    assert isinstance(planes, Planes) and isinstance(steps, WholeSteps)
    meet(planes, x, target_psnr=25)
    assert planes.coded == [5]
    meet(steps, x, target_psnr=25)
    assert len(steps.coded) == len(set(steps.coded)) <= 3  # of six rates: bisection
    streams = Streams(planes, x)
    assert [streams.at(rate) for rate in range(6)] == [planes.compress(x, r) for r in range(6)]


def test_real_rates_come_nearer_than_whole_ones() -> None:
    codec, x = ready_copy(Steps()), photo()
    ends = [Streams(codec, x).bpp(rate) for rate in (0, 5)]
    for target in torch.linspace(ends[0] * 1.05, ends[1] * 0.98, 7).tolist():
        stream = meet(codec, x, target_bpp=target).stream
        got = 8 * len(stream.to_bytes()) * 3 / x.numel()
        assert 0.98 * target < got <= target
        assert stream == Bitstream.from_bytes(stream.to_bytes())
    for target in (24.0, 27.3, 33.3, 41.9):
        met = meet(codec, x, target_psnr=target)
        decoded = codec.decompress(met.stream)
        assert met.psnr == metrics.psnr(*map(to_uint8, (decoded, x)))
        assert target <= met.psnr < target + 0.15
        assert met.stream == codec.compress(x, met.rate)
    assert meet(codec, x, target_bpp=1000).stream == codec.compress(x, 5)
    assert meet(codec, x, target_psnr=0.1).stream == codec.compress(x, 0)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_nonsense_is_refused_before_anything_is_coded(target: float) -> None:
    codec, x = ready_copy(Steps()), photo()
    for call in ({"target_bpp": target}, {"target_psnr": target}):
        with pytest.raises(ModelError, match="give a number above 0"):
            meet(codec, x, **call)
    assert isinstance(codec, Steps) and codec.coded == []
    for call in ({}, {"target_bpp": 1.0, "target_psnr": 30.0}):
        with pytest.raises(ValueError, match="either"):
            meet(codec, x, **call)


def test_a_model_of_one_rate_meets_what_it_gives(zoo: Zoo, tmp_path: Path) -> None:
    codec, x = zoo.ready("mean_scale"), zoo.photo(64, 64)
    stream = codec.compress(x)
    bpp = 8 * len(stream.to_bytes()) / 64**2
    assert meet(codec, x, target_bpp=bpp).stream == stream
    with pytest.raises(
        ModelError, match=r"no rate of 0 \.\.\. 0 meets .* bpp: the nearest is rate 0"
    ):
        meet(codec, x, target_bpp=bpp * 0.99)
    with pytest.raises(ModelError, match=r"nearest is rate 0 with .* dB"):
        meet(codec, x, target_psnr=60)
