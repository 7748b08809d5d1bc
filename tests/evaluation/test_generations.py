"""Coding again and again: every round is a file, and what stands still is known to."""

from __future__ import annotations

import csv
import itertools
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.stepped_codecs import Layers, Planes, Steps
from torch import Tensor

from lic_train.anchors.image import JPEG
from lic_train.codec import Codec
from lic_train.codec.export import ready_copy
from lic_train.codec.signal import to_uint8
from lic_train.errors import LicError, ModelError
from lic_train.evaluation.generations import (
    Generation,
    chain,
    first_repeats,
    jpeg,
    of_codec,
    plan,
    report,
)
from lic_train.evaluation.rate_control import Streams


class Signal(NamedTuple):
    name: str
    pixels: Tensor


class Drifts(Planes):
    """Every decoding is a little darker, by less than half a step of 8 bits."""

    def decode(self, chunks: list[bytes], shape: tuple[int, ...], rate: int) -> Tensor:
        return super().decode(chunks, shape, rate) - 0.3 / 255


def signals() -> list[Signal]:
    draw = torch.Generator().manual_seed(0)
    sizes = {"a": (24, 30), "b": (17, 40)}
    pixels = {n: torch.randint(0, 256, (3, *s), generator=draw) for n, s in sizes.items()}
    return [Signal(name, p.to(torch.uint8)) for name, p in pixels.items()]


def by_hand(codec: Codec, pixels: Tensor, rates: list[float], eight_bit: bool) -> list[bytes]:
    x, files = pixels[None].float() / 255, []
    for rate in rates:
        stream = codec.compress(x, rate)
        files.append(stream.to_bytes())
        x = codec.decompress(stream)
        x = to_uint8(x).float() / 255 if eight_bit else x
    return files


@pytest.mark.parametrize("storage", ["float", "8-bit"])
@pytest.mark.parametrize("kind", [Drifts, Steps])
def test_rounds_are_those_coded_one_by_one(kind: type[Steps], storage: str) -> None:
    codec = ready_copy(kind())
    for rates in ([2.0] * 9, [5.0, 1.0, 2.0, 1.0]):
        files = by_hand(codec, signals()[0].pixels, rates, storage == "8-bit")
        steps = list(chain(of_codec(codec), signals()[0].pixels, rates, storage))
        assert [s.bytes for s in steps] == [len(file) for file in files]
        same = [a == b for a, b in itertools.pairwise(files)]
        assert [s.repeats for s in steps] == [False, *same]
        assert [s.rate for s in steps] == rates


def test_what_repeats_is_not_coded_again() -> None:
    codec = ready_copy(Planes())
    assert isinstance(codec, Planes)
    steps = list(chain(of_codec(codec), signals()[0].pixels, [3.0] * 50, "8-bit"))
    assert len(steps) == 50 and len(codec.coded) == 2  # bit planes stand still at once
    assert [s.repeats for s in steps] == [False] + [True] * 49
    assert len({s.psnr for s in steps}) == 1


def test_jpeg_is_measured_on_its_files() -> None:
    steps = list(chain(jpeg, signals()[0].pixels, [30.0] * 5, "8-bit"))
    assert steps[0].bytes > 300 and steps[0].psnr > steps[-1].psnr - 0.5


def test_plans() -> None:
    codec = Planes()
    assert plan(codec, 3, -1) == [5, 5, 5] and plan(codec, 2, 2.5) == [2.5, 2.5]
    mixed = plan(codec, 40, None)
    assert mixed == plan(codec, 40, None) and set(mixed) == set(range(6))
    assert all(a != b for a, b in itertools.pairwise(mixed))
    with pytest.raises(LicError, match="rounds is 0"):
        plan(codec, 0, -1)
    codec.num_rates = 1
    with pytest.raises(ModelError, match="nothing to mix"):
        plan(codec, 3, None)


def test_a_layer_of_another_size_is_refused() -> None:
    with pytest.raises(ModelError, match="another size"):
        list(chain(of_codec(ready_copy(Layers())), signals()[0].pixels, [0.0], "float"))


@pytest.mark.parametrize("rate", [-1, 2, None])
def test_the_report(rate: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = ready_copy(Planes())
    rows = report(
        codec, signals(), tmp_path / "new", name="planes", dataset="set", rounds=6, rate=rate
    )
    assert len(rows) == 2 * 6 * 3  # images, rounds; float, 8-bit, JPEG
    with (tmp_path / "new" / "generations.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [f.name for f in fields(Generation)] and len(table) == len(rows)
    assert (tmp_path / "new" / "figures" / "generations.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "planes float" in printed and "jpeg 8-bit" in printed and "dB 5" in printed
    rounds = {n: [r for r in rows if r.storage == "float" and r.round == n] for n in range(1, 7)}
    assert first_repeats(rounds) == ({} if rate is None else {"a": 2, "b": 2})
    assert ("2/2 by 2" in printed) == (rate is not None)
    # JPEG's quality is the nearest in bytes, over both images, for each rate.
    first = {r.image: r for r in rows if r.codec == "jpeg" and r.round == 1}
    sizes = {s.name: len(jpeg(s.pixels[None] / 255, first["a"].rate)[0]) for s in signals()}
    assert {name: row.bytes for name, row in first.items()} == sizes
    files = [Streams(codec, s.pixels[None] / 255).at(rounds[1][0].rate) for s in signals()]
    wanted = sum(len(f.to_bytes()) for f in files)
    for other in (first["a"].rate + 5, first["a"].rate - 5):
        if other in JPEG.qualities:
            total = sum(len(jpeg(s.pixels[None] / 255, other)[0]) for s in signals())
            assert abs(total - wanted) >= abs(sum(sizes.values()) - wanted)
