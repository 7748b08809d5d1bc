"""Curves, common images, hulls and rates at equal PSNR."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.curves import VTM, curve, row, rows

from lic_train.errors import LicError
from lic_train.figures.terminal import results_table
from lic_train.rd import curves as rd
from lic_train.rd.points import RDPoint


def test_mean_curve_is_the_mean_of_db_in_order_of_rate() -> None:
    points = [row("c", 1, 1.0, 40.0, "a"), row("c", 1, 2.0, 30.0, "b")]
    points += [row("c", 0, 0.5, 30.0, "a"), row("c", 0, 0.7, 20.0, "b")]
    result = rd.mean_curve([*points, row("other", 0, 9.0, 9.0)], "c")
    assert result.rate == (0, 1) and result.images == 2
    assert result.bpp == pytest.approx([0.6, 1.5])
    assert result.psnr == pytest.approx([25, 35])  # of one MSE for all pixels it would be less


def test_models_of_a_sweep_are_points_of_one_curve() -> None:
    points = [row("c", 0, b, q, lmbda=lm) for lm, b, q in ((0.03, 1.0, 36.0), (0.01, 0.5, 32.0))]
    assert rd.mean_curve(points, "c").lmbda == (0.01, 0.03)


def test_both_means_of_ms_ssim_are_kept_apart() -> None:
    points = [replace(row("c", 0, 1.0, 30.0, i), ms_ssim=s) for i, s in (("a", 0.9), ("b", 0.99))]
    points.append(row("c", 0, 1.0, 30.0, "too small for it"))
    result = rd.mean_curve(points, "c")
    assert result.ms_ssim == pytest.approx([0.945])
    assert result.ms_ssim_mean_of_db == pytest.approx([15.0])


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "no points"),
        ([row("c", 0, 1, 30), row("c", 1, 1, 30, image="b")], "same images"),
        ([row("c", 0, 1, 30), row("c", 0, 1, 30, dataset="other")], "mix datasets"),
    ],
)
def test_rows_that_do_not_compare_are_refused(points: list[RDPoint], why: str) -> None:
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
    points += [row("c", 0, 0.1, 28.0, "a"), row("c", 0, 1.6, 25.0, "b")]
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
    points = [*rows("jpeg", VTM), row("layers", 0, 0.2, 32.0, width=8, height=8)]
    (saved,) = rd.rates_saved(points, "layers", "jpeg")
    assert math.isnan(saved.on_mean_curve) and saved.images == saved.same_size == 0
    table = results_table([*points, row("layers", 1, 0.3, 32.0)], "layers")
    assert [cell.split()[0] for cell in table.columns[0].cells] == ["layers", "layers", "JPEG"]
    assert isinstance(table.caption, str) and "rate 0: of another size than JPEG" in table.caption


def test_points_of_infinite_psnr_are_said_and_not_compared_with() -> None:
    """A flat image is coded without loss by all but the coarsest JPEG."""
    points = [*rows("jpeg", [(0.1, 23.95), (0.2, math.inf), (0.3, math.inf)])]
    table = results_table([*points, row("mine", 0, 0.15, 29.22)], "mine")
    assert isinstance(table.caption, str) and "inf dB" not in table.caption
    assert "23.95 to 23.95 dB (2 of its 3 points are lossless" in " ".join(table.caption.split())


def test_nearest_is_by_mean_rate() -> None:
    assert rd.nearest(rows("jpeg", VTM), 0.3) == 2
    assert rd.nearest(rows("jpeg", VTM), 99.0) == 7


def test_rows_that_several_runs_share_count_once_and_may_not_contradict() -> None:
    points = rows("jpeg", VTM)
    again = [replace(p, encode_s=1.0) for p in points]
    assert rd.mean_curve([*points, *again], "jpeg").bpp == pytest.approx([b for b, _ in VTM])
    with pytest.raises(LicError, match="two results for a"):
        rd.mean_curve([*points, replace(points[0], bpp=0.04)], "jpeg")


def test_only_common_images_of_equal_size_compare_and_a_line_says_so() -> None:
    points = [p for image in "abc" for p in rows("jpeg", VTM, image)]
    points += [p for image in "bcd" for p in rows("mine", VTM, image)]
    points = [replace(p, width=99) if (p.codec, p.image) == ("mine", "c") else p for p in points]
    kept, notes = rd.common(points, ("jpeg", "mine"))
    assert {p.image for p in kept} == {"b"} and len(kept) == 2 * len(VTM)
    assert len(notes) == 1 and "only the 1 images common to jpeg and mine" in notes[0]
    with pytest.raises(LicError, match="no image is common"):
        rd.common([p for p in points if p.image != "b"], ("jpeg", "mine"))
    coarse = row("mine", 99, 0.01, 40.0, "b", width=8)
    kept, notes = rd.common([*points, coarse], ("jpeg", "mine"))
    assert len(kept) == 2 * len(VTM) and "pictures are smaller" in notes[0]


def test_the_hull_is_what_one_would_choose_among() -> None:
    worse = [(0.11, 27.0), (0.6, 34.3), (0.25, 31.0), (9.0, math.inf), (0.490545, 30.0)]
    hull = rd.hull(curve("sweep", VTM + worse))
    assert list(zip(hull.bpp, hull.psnr, strict=True)) == VTM
    assert hull.rate == tuple(range(8))
    slopes = np.diff(hull.psnr) / np.diff(hull.bpp)
    assert (np.diff(slopes) < 0).all()
