"""BD figures: others' values, and a refusal wherever there is nothing to say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import bjontegaard
import numpy as np
import pytest
from helpers.curves import VTM, curve, rows
from scipy.integrate import quad

from lic_train.errors import DataError, LicError
from lic_train.rd import bd, published
from lic_train.rd import curves as rd
from lic_train.rd.points import RDPoint

# Percent on Kodak, PCHIP, against VTM, computed elsewhere from the same published points.
GOLDEN = {
    "paper-elic2022": -7.0,
    "cheng2020-anchor": 3.7,
    "cheng2020-attn": 5.5,
    "mbt2018": 11.0,
    "av1": 16.2,
    "mbt2018-mean": 21.3,
    "bpg": 22.0,
    "hm": 23.3,
    "bmshj2018-hyperprior": 30.5,
    "bmshj2018-factorized": 68.1,
    "webp": 78.8,
    "jpeg2000": 98.0,
    "jpeg": 208.5,
}


def kodak(name: str) -> published.PublishedCurve:
    (found,) = published.curves("kodak", [name])
    return found


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    vtm, test = kodak("vtm"), kodak(name)
    # The golden values have one digit: 0.05 is their own rounding. 0.001 more is that of the points
    # (WebP is 78.749 from points of 4 decimals of a dB).
    assert bd.bd_rate(vtm, test) == pytest.approx(GOLDEN[name], abs=0.051)
    for method in bd.METHODS:
        points = (vtm.bpp, vtm.psnr, test.bpp, test.psnr)
        options: dict[str, Any] = {"method": method, "require_matching_points": False}
        theirs = bjontegaard.bd_rate(*points, **options, min_overlap=0)
        assert bd.bd_rate(vtm, test, method) == pytest.approx(theirs, abs=0.01)
        theirs = bjontegaard.bd_psnr(*points, **options, min_overlap=0)
        assert bd.bd_psnr(vtm, test, method, min_overlap=0) == pytest.approx(theirs, abs=0.001)
    # The same integral by this package's own interpolation.
    low, high = (pick(vtm.psnr[i], test.psnr[i]) for pick, i in ((max, 0), (min, -1)))

    def log_ratio(quality: float) -> float:
        rates = [rd.rate_at(c.bpp, c.psnr, quality) for c in (test, vtm)]
        return math.log(rates[0] / rates[1])

    knots = [q for q in (*vtm.psnr, *test.psnr) if low < q < high]
    area, _ = quad(log_ratio, low, high, points=knots, limit=200)
    mean = 100 * math.expm1(area / (high - low))
    assert bd.bd_rate(vtm, test) == pytest.approx(mean, abs=0.01)


def test_a_known_factor_and_the_name_of_the_method() -> None:
    vtm, cheaper = curve("vtm", VTM), curve("cheaper", [(0.8 * b, q) for b, q in VTM])
    for method in bd.METHODS:
        assert bd.bd_rate(vtm, cheaper, method) == pytest.approx(-20)
    assert bd.bd_rate(vtm, vtm) == pytest.approx(0, abs=1e-9)
    assert bd.bd_psnr(vtm, curve("better", [(b, q + 1) for b, q in VTM])) == pytest.approx(1)
    assert bd.bd_rate(kodak("vtm"), kodak("mbt2018"), "cubic") == pytest.approx(10.61, abs=0.005)
    with pytest.raises(LicError, match="no method 'linear'"):
        bd.bd_rate(vtm, cheaper, "linear")
    with pytest.raises(LicError, match="has no 'vmaf'"):
        bd.bd_rate(vtm, cheaper, metric="vmaf")


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (VTM[:3], "test has 3 points with PSNR; BD-rate takes at least 4"),
        ([*VTM[:3], VTM[0]], "has 3 points"),  # a duplicate is no point more
        ([*VTM[:3], (4.0, math.inf)], "has 3 points"),
        (VTM[:1], "has 1 point with"),
        ([(b, q - 12) for b, q in VTM], "covers 41% of the PSNR range"),
        ([(b, q + 40) for b, q in VTM], "covers 0%"),
        ([VTM[0], (0.1, 25.0), *VTM[2:]], "does not rise with rate between 0.04825 and 0.1 bpp"),
        ([*VTM, (VTM[2][0], 33.0)], "does not rise with rate between 0.2458 and 0.2458"),
        ([(b, 30.0) for b, _ in VTM], "does not rise"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(
    test: list[tuple[float, float]], why: str
) -> None:
    with pytest.raises(LicError, match=why) as caught:
        bd.bd_rate(curve("vtm", VTM), curve("test", test))
    assert "\n" not in str(caught.value)
    comparison = bd.compare(rows("vtm", VTM) + rows("test", test), "vtm", "test")
    assert comparison.refusal == str(caught.value)
    assert (comparison.bd_rate, comparison.mean, comparison.interval) == (None, None, None)
    assert comparison.by_method == {} and math.isnan(comparison.spread)


def test_a_lossless_point_and_a_duplicate_are_left_out_aloud() -> None:
    odd = [*VTM, (9.0, math.inf), VTM[3]]
    comparison = bd.compare(rows("vtm", VTM) + rows("odd", odd), "vtm", "odd")
    assert comparison.bd_rate == pytest.approx(0, abs=1e-9)
    assert len(comparison.notes) == 1 and "2 of 10 points of odd left out" in comparison.notes[0]


def test_a_published_curve_is_never_compared_with_a_measured_one() -> None:
    with pytest.raises(LicError, match="one is published and one measured"):
        bd.bd_rate(kodak("vtm"), curve("mine", VTM))


@pytest.fixture
def sweep() -> list[RDPoint]:
    """Images a ... h on which ``mine`` saves 10, 12, ... 24 %."""
    points = []
    for i, image in enumerate("abcdefgh"):
        points += rows("vtm", [(b * (1 + i), q) for b, q in VTM], image)
        points += rows("mine", [(b * (1 + i) * (0.9 - 0.02 * i), q) for b, q in VTM], image)
    return points


def test_per_image_figures_have_a_mean_and_a_seeded_interval(sweep: list[RDPoint]) -> None:
    comparison = bd.compare(sweep, "vtm", "mine")
    expected = {image: -10 - 2 * i for i, image in enumerate("abcdefgh")}
    assert comparison.per_image == pytest.approx(expected)
    assert comparison.mean == pytest.approx(-17) and comparison.images == 8
    assert comparison.interval == bd.compare(sweep[::-1], "vtm", "mine").interval
    assert comparison.interval is not None
    low, high = comparison.interval
    # Of the mean of 8 values whose standard deviation is 4.58: +-1.96 sigma/sqrt(8) is +-3.2.
    assert low == pytest.approx(-17 - 3.1, abs=0.3) and high == pytest.approx(-17 + 3.1, abs=0.3)
    assert comparison.interval != bd.compare(sweep, "vtm", "mine", seed=1).interval
    assert comparison.overlap == 1 and comparison.spread < 1e-6 and comparison.notes == ()
    # Costly images weigh more in the mean curve: it is another figure.
    weighted = sum((1 + i) * (0.9 - 0.02 * i) for i in range(8)) / sum(range(1, 9))
    assert comparison.bd_rate == pytest.approx(100 * weighted - 100)
    one = bd.compare([p for p in sweep if p.image == "a"], "vtm", "mine")
    assert one.mean == pytest.approx(-10) and one.interval is None


def test_images_without_a_figure_of_their_own_are_counted(sweep: list[RDPoint]) -> None:
    sweep = [
        replace(p, psnr=60.0) if (p.codec, p.image, p.rate) == ("mine", "b", 7) else p
        for p in sweep
    ]
    comparison = bd.compare(sweep, "vtm", "mine")
    assert "b" not in comparison.per_image and len(comparison.per_image) == 7
    assert "1 of 8 images have no BD-rate of their own (b: vtm covers" in comparison.notes[0]


def test_the_hull_is_asked_for_by_name() -> None:
    worse = [*VTM, (0.2, 27.0)]
    points = rows("vtm", VTM) + rows("sweep", worse)
    assert "take the convex hull" in bd.compare(points, "vtm", "sweep").refusal
    assert bd.compare(points, "vtm", "sweep", hull=True).bd_rate == pytest.approx(0, abs=1e-9)


def test_ms_ssim_figures_say_which_mean(sweep: list[RDPoint]) -> None:
    similar = [replace(p, ms_ssim=1 - 10 ** (-p.psnr / 25)) for p in sweep]
    for metric in ("ms_ssim_mean_of_db", "ms_ssim_db_of_mean"):
        assert bd.compare(similar, "vtm", "mine", metric=metric).bd_rate == pytest.approx(
            bd.compare(sweep, "vtm", "mine").bd_rate
        )
    refusal = bd.compare(sweep, "vtm", "mine", metric="ms_ssim_mean_of_db").refusal
    assert "0 points with MS-SSIM, mean of dB" in refusal


# --- published curves


def test_published_curves_are_labelled_and_have_a_source() -> None:
    images = ["clic2020-mobile", "clic2020-professional", "kodak"]
    assert published.datasets() == sorted([*images, "hevc_b", "hevc_c", "hevc_d", "hevc_e", "uvg"])
    assert sum(len(published.curves(d)) for d in published.datasets()) > 50
    for found in published.curves("kodak"):
        assert found.published and found.label.endswith("(published)")
        assert "@" in found.source and found.source.endswith(".json")
        assert len(found.bpp) == len(found.psnr) == len(found.ms_ssim) >= 4
        assert (np.diff(found.bpp) > 0).all() and found.pixels in ("8-bit", "float", "not said")
    json.dumps([found.label for found in published.curves("kodak", trained_for="ms-ssim")])
    assert published.curves("kodak", ["mbt2018"], "ms-ssim")[0].label.startswith("mbt2018, MS-SSIM")
    with pytest.raises(DataError, match="no published curves of 'tecnick'"):
        published.curves("tecnick")
    with pytest.raises(DataError, match="kodak has no published h264"):
        published.curves("kodak", ["h264"])


def test_8_bit_rounding_costs_what_the_docstring_says() -> None:
    plain, rounded = kodak("mbt2018-mean"), kodak("mbt2018-mean-8bit")
    assert (plain.pixels, rounded.pixels) == ("float", "8-bit")
    assert plain.bpp == pytest.approx(rounded.bpp)
    lost = plain.psnr - rounded.psnr
    assert 0.003 < lost.min() and lost.max() < 0.07
