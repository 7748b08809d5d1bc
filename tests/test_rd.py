"""Curves, rates at equal PSNR and BD-rate, against values computed by others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from lic_train import rd
from lic_train.errors import LicError


@dataclass(frozen=True)
class Row:
    """A row that satisfies ``rd.Point``."""

    codec: str
    rate: int
    bpp: float
    psnr: float
    image: str = "a"
    dataset: str = "set"
    lmbda: float | None = None
    width: int = 16
    height: int = 16
    ms_ssim: float = math.nan
    encode_s: float = 0.0
    decode_s: float = 0.0


# CompressAI's published results on Kodak (8-bit RGB PSNR), its repository at 869a9f5,
# results/image/kodak: (bpp, dB).
VTM = [
    (0.048245, 26.1448), (0.112495, 28.4930), (0.245817, 31.1999), (0.490545, 34.2615),
    (0.874810, 37.4198), (1.430850, 40.4244), (2.324607, 43.5058), (3.632609, 46.5918),
]  # fmt: skip
MBT2018_MEAN = [
    (0.123922, 27.6995), (0.197981, 29.3588), (0.307244, 31.1289), (0.460612, 32.9507),
    (0.661665, 34.9683), (0.914405, 36.9111), (1.234209, 38.8375), (1.619090, 40.6333),
]  # fmt: skip


def rows(codec: str, curve: list[tuple[float, float]], image: str = "a") -> list[Row]:
    return [Row(codec, i, b, q, image) for i, (b, q) in enumerate(curve)]


def curve(codec: str, points: list[tuple[float, float]]) -> rd.Curve:
    return rd.mean_curve(rows(codec, points), codec)


def test_bd_rate_gives_the_published_value() -> None:
    vtm, mean_scale = curve("vtm", VTM), curve("mbt2018-mean", MBT2018_MEAN)
    assert rd.bd_rate(vtm, mean_scale) == pytest.approx(21.3, abs=0.05)
    assert rd.bd_rate(vtm, vtm) == pytest.approx(0, abs=1e-9)
    # The integration by the package and our interpolation are of the same curve.
    grid = np.linspace(mean_scale.psnr[0], mean_scale.psnr[-1], 2001)
    logs = [
        math.log(rd.rate_at(mean_scale.bpp, mean_scale.psnr, q) / rd.rate_at(vtm.bpp, vtm.psnr, q))
        for q in grid
    ]
    assert 100 * (math.exp(np.mean(logs)) - 1) == pytest.approx(21.28, abs=0.05)


def test_bd_rate_of_a_known_factor() -> None:
    cheaper = [(0.8 * b, q) for b, q in VTM]
    assert rd.bd_rate(curve("vtm", VTM), curve("cheaper", cheaper)) == pytest.approx(-20)


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (VTM[:3], "3 points"),
        ([(b, q - 12) for b, q in VTM], "covers"),
        ([(b, q + 40) for b, q in VTM], "covers 0%"),
        ([VTM[0], (0.1, 25.0), *VTM[2:]], "does not rise"),
        ([*VTM[:-1], (3.6, math.inf)], "does not rise"),
    ],
)
def test_bd_rate_refuses_what_has_no_meaning(test: list[tuple[float, float]], why: str) -> None:
    with pytest.raises(LicError, match=why):
        rd.bd_rate(curve("vtm", VTM), curve("test", test))


def test_mean_curve_is_the_mean_of_db_in_order_of_rate() -> None:
    points = [Row("c", 1, 1.0, 40.0, "a"), Row("c", 1, 2.0, 30.0, "b")]
    points += [Row("c", 0, 0.5, 30.0, "a"), Row("c", 0, 0.7, 20.0, "b")]
    result = rd.mean_curve([*points, Row("other", 0, 9.0, 9.0)], "c")
    assert result.rate == (0, 1) and result.images == 2
    assert result.bpp == pytest.approx([0.6, 1.5])
    assert result.psnr == pytest.approx([25, 35])  # of one MSE for all pixels it would be less


def test_models_of_a_sweep_are_points_of_one_curve() -> None:
    points = [Row("c", 0, b, q, lmbda=lm) for lm, b, q in ((0.03, 1.0, 36.0), (0.01, 0.5, 32.0))]
    assert rd.mean_curve(points, "c").lmbda == (0.01, 0.03)


def test_both_means_of_ms_ssim_are_kept_apart() -> None:
    points = [replace(Row("c", 0, 1.0, 30.0, i), ms_ssim=s) for i, s in (("a", 0.9), ("b", 0.99))]
    points.append(Row("c", 0, 1.0, 30.0, "too small for it"))
    result = rd.mean_curve(points, "c")
    assert result.ms_ssim == pytest.approx([0.945])
    assert result.ms_ssim_mean_of_db == pytest.approx([15.0])


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "no points"),
        ([Row("c", 0, 1, 30), Row("c", 1, 1, 30, image="b")], "same images"),
        ([Row("c", 0, 1, 30), Row("c", 0, 1, 30, dataset="other")], "mix datasets"),
    ],
)
def test_rows_that_do_not_compare_are_refused(points: list[Row], why: str) -> None:
    with pytest.raises(LicError, match=why):
        rd.mean_curve(points, "c")


def test_rate_at_meets_the_points_and_never_extrapolates() -> None:
    bpp, psnr = (np.array(v) for v in zip(*VTM, strict=True))
    for b, q in VTM:
        assert rd.rate_at(bpp, psnr, q) == pytest.approx(b)
    assert VTM[1][0] < rd.rate_at(bpp, psnr, 30.0) < VTM[2][0]
    assert math.isnan(rd.rate_at(bpp, psnr, 26.1))
    assert math.isnan(rd.rate_at(bpp, psnr, 46.6))
    # A setting that costs more for less, or that is lossless, is no reason to fail.
    odd = np.append(bpp, [0.05, 9.0]), np.append(psnr, [20.0, math.inf])
    assert rd.rate_at(*odd, 30.0) == pytest.approx(rd.rate_at(bpp, psnr, 30.0))


def test_rate_saved_by_both_means() -> None:
    anchor_a = [(0.1 * 2**i, 25.0 + 3 * i) for i in range(5)]
    anchor_b = [(0.8 * 2**i, 22.0 + 3 * i) for i in range(5)]
    points = rows("jpeg", anchor_a, "a") + rows("jpeg", anchor_b, "b")
    # At a point of each: image a saves half, b nothing; b is the costly one.
    points += [Row("c", 0, 0.1, 28.0, "a"), Row("c", 0, 1.6, 25.0, "b")]
    (saved,) = rd.rates_saved(points, "c", "jpeg")
    assert saved.mean_over_images == pytest.approx(25) and saved.images == 2
    # Mean curve: (0.1 + 1.6) / 2 against (0.2 + 1.6) / 2 at 26.5 dB.
    assert saved.on_mean_curve == pytest.approx(100 * (1 - 0.85 / 0.9))
    # Out of the anchor's reach on one image: left out, and the count says so.
    points[-1] = replace(points[-1], psnr=60.0)
    (saved,) = rd.rates_saved(points, "c", "jpeg")
    assert saved.images == 1 and saved.mean_over_images == pytest.approx(50)
    assert math.isnan(saved.on_mean_curve)


def test_a_coarse_layer_is_not_compared_with_full_size_images() -> None:
    points = [*rows("jpeg", VTM), Row("layers", 0, 0.2, 32.0, width=8, height=8)]
    (saved,) = rd.rates_saved(points, "layers", "jpeg")
    assert math.isnan(saved.on_mean_curve) and saved.images == 0


def test_nearest_is_by_mean_rate() -> None:
    assert rd.nearest(rows("jpeg", VTM), 0.3) == 2
    assert rd.nearest(rows("jpeg", VTM), 99.0) == 7
