"""What a file is longer than promised has causes, and they add up to the file."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from helpers.mixtures import draw, parameters
from helpers.models import every_model
from helpers.zoo import Zoo

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signal
from lic_train.errors import ModelError
from lic_train.evaluation import measure as evaluation
from lic_train.evaluation.rate_gap import CAUSES, RateGap, describe, rate_gap
from lic_train.evaluation.results import Labels
from lic_train.modules.entropy import accounts
from lic_train.modules.entropy.bottleneck import price
from lic_train.modules.entropy.escapes import gaussian_as_coded
from lic_train.modules.entropy.mixture import encode_mixture, fixed_point, mixture_bits
from lic_train.modules.entropy.symbols import (
    BYPASS,
    PRECISION,
    Tables,
    encode_symbols,
    information,
    table_bits,
)
from lic_train.rd import points as rd_points


def sum_of_parts(gap: RateGap) -> float:
    return gap.estimated + sum(getattr(gap, cause) for cause in CAUSES)


@every_model
def test_the_parts_of_the_gap_add_up_to_the_byte(stem: str, zoo: Zoo, tmp_path: Path) -> None:
    """And each is what it is called, not a remainder: what the coder was told sums to the estimate,
    what it wrote is hardly more than its tables say."""
    codec = zoo.ready(stem)
    photo = Signal("photo", to_uint8(zoo.signal(stem, 96, 128)[0]))
    result = evaluation.evaluate(codec, [photo], Labels("set", stem, 0.01), out_dir=tmp_path)
    points, gaps = result.points, result.gaps
    assert [(g.rate, g.bytes) for g in gaps] == [(p.rate, p.bytes) for p in points]
    with accounts.kept() as entries:
        stream = codec.compress(photo.pixels[None].float() / 255)
    told = [entry() for entry in entries]
    for gap in gaps:
        assert sum_of_parts(gap) == pytest.approx(8 * gap.bytes, abs=1e-6)
        assert gap.header % 8 == 0 and 0 < gap.header <= 8 * 32 + 8 * len(stream.chunks)
        # A codec that holds codecs checks each of theirs.
        assert gap.checks % 8 == 0
        assert 0 <= gap.checks <= 64 * max(len(told), len(stream.chunks))
        # Two range coders flush 8 bytes each; 24-bit probabilities cost 0.01 %.
        runs = max(len(told), len(stream.chunks))
        assert -1 <= gap.coder <= 72 * runs + 0.001 * gap.estimated
    if told:
        assert sum(a.estimated.sum() for a in told) == pytest.approx(gaps[-1].estimated, rel=1e-3)
        for a in told:
            assert len(a.bits) == len(a.estimated) == len(a.escaped) and (a.bits > 0).all()
            assert -1 <= 8 * a.bytes - a.bits.sum() <= 72 + 0.001 * a.bits.sum()


def test_bits_of_tables_and_escapes_are_those_the_coder_writes() -> None:
    model = GaussianConditional([0.11, 1.0, 8.0])
    model.update()
    tables, rng = Tables(model), np.random.default_rng(0)
    indexes = rng.integers(0, 3, 3000)
    symbols = np.rint(rng.normal(0, 1, 3000) * np.array([0.1, 1, 8])[indexes]).astype(np.int32)
    bits, escaped = table_bits(symbols, indexes, tables)
    assert not escaped.any()
    assert 0 <= 8 * len(encode_symbols(symbols, indexes, tables)) - bits.sum() <= 64 + 8
    # Escapes of every length: 4 bits at a time, up to 28.
    symbols[:54] = np.concatenate([1 << np.arange(27), -(1 << np.arange(27))])
    symbols[60:90] += 40
    bits, escaped = table_bits(symbols, indexes, tables)
    assert 60 < escaped.sum() <= 84
    assert 0 <= 8 * len(encode_symbols(symbols, indexes, tables)) - bits.sum() <= 64 + 8


def test_an_outlier_is_estimated_at_what_the_coder_charges() -> None:
    """A density falls without end: at 30 bits for an outlier that costs 16, or 1,000 for one that
    costs 30, files would be shorter than they are promised to be."""
    scales = torch.tensor([0.11, 1.0, 8.0])
    model = GaussianConditional(scales.tolist()).eval()
    model.update()
    symbols = torch.cat([torch.arange(-300, 301), 1 << torch.arange(9, 25)])
    indexes = torch.arange(3).repeat_interleave(len(symbols))
    values, sigmas = symbols.repeat(3).float(), scales[indexes]
    bits, escaped = table_bits(values.int().numpy(), indexes.numpy(), Tables(model))
    density = model._likelihood(values, sigmas).clamp(min=1e-9)
    estimated = information(gaussian_as_coded(density, values, sigmas, torch.zeros(1)))
    assert escaped.sum() > 1000
    # A piece less or more on one side of the table than on the other; and CompressAI gives the
    # escape what rounding a table's probabilities left over.
    wrong = (estimated - bits)[escaped]
    assert -BYPASS <= wrong.min() and wrong.max() <= BYPASS + 8
    assert estimated[~escaped].max() <= PRECISION
    common = bits < 10  # of the rarer, a table's entries are rounded by many percent
    assert np.abs(estimated - bits)[common].max() < 0.1


def test_so_is_one_of_the_side_information() -> None:
    model = EntropyBottleneck(2).eval()
    model.update(force=True, update_quantiles=True)
    symbols = torch.cat([torch.arange(-300, 301), 1 << torch.arange(9, 17)]).float()
    z = (symbols + model.quantiles[:, 0, 1:].detach()[:, :1])[None, :, None]
    indexes = np.arange(2).repeat(len(symbols))
    bits, escaped = table_bits(symbols.repeat(2).int().numpy(), indexes, Tables(model))
    estimated = information(price(model, z)[1])
    assert escaped.sum() > 300
    wrong = (estimated - bits)[escaped]
    assert -BYPASS <= wrong.min() and wrong.max() <= BYPASS + 8
    assert estimated[~escaped].max() <= PRECISION
    # In training there is CompressAI's bound of 1e-9 alone: this one has no gradient.
    assert information(price(model.train(), z)[1]).max() == pytest.approx(-np.log2(1e-9))


@pytest.mark.parametrize("symbol", [1 << 27, -(1 << 27), 1 << 29, -(1 << 31)])
def test_a_symbol_the_library_would_never_end_with_is_refused(symbol: int) -> None:
    model = GaussianConditional([0.11, 1.0])
    model.update()
    with pytest.raises(ModelError, match="too far from its mean"):
        encode_symbols(np.array([0, symbol]), np.array([0, 1]), Tables(model))


def test_bits_of_mixtures_and_escapes_are_those_the_coder_writes() -> None:
    raw = parameters(4000, 3)
    mixture, symbols = fixed_point(*raw), draw(*raw)
    symbols[:21] += (1 << np.arange(21)) * np.where(np.arange(21) % 2, 1, -1)
    bits, escaped = mixture_bits(symbols, mixture)
    assert 10 < escaped.sum() < 200
    assert -1 <= 8 * len(encode_mixture(symbols, mixture)) - bits.sum() <= 72 + 0.001 * bits.sum()


def test_accounts_are_kept_only_while_asked_for() -> None:
    def refuse() -> accounts.Entry:
        raise AssertionError("nobody asked")

    accounts.add(refuse)
    with accounts.kept() as outer:
        accounts.add(refuse)
        with accounts.kept() as inner:
            accounts.add(refuse)
        assert len(outer) == len(inner) == 1
    accounts.add(refuse)
    assert len(outer) == 1


def test_rows_have_the_columns_of_the_csv_and_a_line_that_sums_them(tmp_path: Path) -> None:
    gap = RateGap("set", "a", "mine", 0, 0.01, 150, 1000.0, 120.0, 32.0, 40.0, 10.0, -2.0)
    assert sum_of_parts(gap) == 8 * gap.bytes and gap.percent == pytest.approx(20)
    rd_points.write_csv([gap], tmp_path / "gap.csv", RateGap)
    header = (tmp_path / "gap.csv").read_text().splitlines()[0]
    assert header == ",".join(f.name for f in fields(RateGap)) and header.endswith(",".join(CAUSES))
    assert describe([gap, gap]) == (
        "files are +20.00 % of the estimated bits longer: header +12.00, checks +3.20, "
        "coder +4.00, tables +1.00, tails -0.20"
    )
    free = RateGap("set", "a", "mine", 0, None, 20, 0.0, 160.0, 0.0, 0.0, 0.0, 0.0)
    assert math.isnan(free.percent) and "nothing was estimated" in describe([free])


def test_each_cause_is_found_where_it_is() -> None:
    """Two chunks of 10 + 4 and of 5 bytes, of which the coders wrote 10 and 5."""
    stream = Bitstream((bytes(14), bytes(5)), (1, 3, 8, 8), 0, bytes(6))
    y = accounts.Entry(
        bytes=10,
        bits=np.array([30.0, 16.0, 14.0, 12.0]),
        estimated=np.array([29.9, 25.0, 13.5, 12.5]),
        escaped=np.array([True, False, False, False]),
    )
    z = accounts.Entry(5, np.array([20.0, 18.0]), np.array([15.5, 15.5]), np.array([True, False]))
    estimated = float(y.estimated.sum() + z.estimated.sum())
    row = {"dataset": "set", "image": "a", "codec": "mine", "rate": 0, "lmbda": None}
    gap = rate_gap(stream, estimated, [lambda: y, lambda: z], **row)  # type: ignore[arg-type]
    assert gap.header == 8 * (gap.bytes - 19) and gap.checks == 32
    assert gap.coder == pytest.approx(120 - 110)
    # The escapes, and what the likelihoods price beyond any table: 25 bits for one of 16.
    assert gap.tails == pytest.approx((30 + 16 + 20) - (29.9 + 25 + 15.5))
    assert gap.tables == pytest.approx((14 + 12 + 18) - (13.5 + 12.5 + 15.5))
    assert sum_of_parts(gap) == pytest.approx(8 * gap.bytes)
    # Without accounts all that is not the header is the coder's.
    alone = rate_gap(stream, estimated, [], **row)  # type: ignore[arg-type]
    assert (alone.checks, alone.tables, alone.tails) == (0, 0, 0)
    assert sum_of_parts(alone) == pytest.approx(8 * alone.bytes)
