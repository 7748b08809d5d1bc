"""Bjontegaard deltas of two curves, with what says how far they can be trusted.

A delta is one number for two curves and hides how it came about. Here it comes with the spread of
the interpolations in use, the share of the curve it is of, the deltas of the single images and an
interval over them; and where it would mean nothing it is refused, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lic_train.errors import LicError
from lic_train.rd import curves as rd
from lic_train.rd.curves import Array, Curve
from lic_train.rd.points import RDPoint
from lic_train.rd.published import PublishedCurve

AnyCurve = Curve | PublishedCurve
METHODS = ("pchip", "akima", "cubic")
"""Interpolations of log rate over quality; the first is the one that is quoted."""
METRICS = {
    "psnr": "PSNR",
    "ms_ssim_mean_of_db": "MS-SSIM, mean of dB",
    "ms_ssim_db_of_mean": "MS-SSIM, dB of mean",
}
"""Columns of a curve that a delta can be of, and what they are called."""
MIN_POINTS, MIN_OVERLAP = 4, 0.75
RESAMPLES, SEED = 10_000, 0


class Comparison(NamedTuple):
    """A codec against an anchor on the images that both have. Rates in percent, negative saves."""

    test: str
    anchor: str
    metric: str
    images: int
    bd_rate: float | None
    """Of the mean curves, PCHIP; ``None``: refused."""
    refusal: str
    """Why it was refused, one line; else empty."""
    by_method: dict[str, float]
    """The same by every method of ``METHODS``; empty if refused."""
    bd_psnr: float | None
    """dB of ``metric`` at equal rate, mean curves, PCHIP; ``None``: refused."""
    overlap: float
    """Share of the test curve's range of ``metric`` that the anchor's covers, 0 ... 1."""
    per_image: dict[str, float]
    """BD-rate, PCHIP, of every image that has one."""
    mean: float | None
    """Mean of ``per_image``; it is not the ``bd_rate`` of the means."""
    interval: tuple[float, float] | None
    """Of ``mean``: 95 %, percentile bootstrap over images. ``None`` of fewer than 2."""
    notes: tuple[str, ...]
    """What was left out, a line each."""

    @property
    def spread(self) -> float:
        """Largest difference between methods, in points of percent; NaN if refused."""
        values = self.by_method.values()
        return max(values) - min(values) if values else math.nan


def bd_rate(
    anchor: AnyCurve,
    test: AnyCurve,
    method: str = "pchip",
    min_overlap: float = MIN_OVERLAP,
    metric: str = "psnr",
) -> float:
    """Rate that ``test`` needs beyond ``anchor`` at equal quality, percent; negative saves.

    Args:
        anchor, test: ``rd.Curve`` of the same images, or both published curves.
        method: one of ``METHODS``; cubic is one polynomial through all points, by least squares.
        min_overlap: the share of the test curve's range that the anchor's must cover.
        metric: one of ``METRICS``.

    Raises:
        LicError: fewer than 4 points, quality that does not rise with rate, too little overlap, or
            a measured and a published curve: the integration would give a number all the same.
    """
    a, t = _pair(anchor, test, metric)
    _check_overlap(anchor, test, (a[1], t[1]), METRICS[metric], min_overlap)
    return _integral("bd_rate", a, t, method)


def bd_psnr(
    anchor: AnyCurve,
    test: AnyCurve,
    method: str = "pchip",
    min_overlap: float = MIN_OVERLAP,
    metric: str = "psnr",
) -> float:
    """dB of ``metric`` that ``test`` has beyond ``anchor`` at equal rate; positive is better.

    Arguments and errors are those of :func:`bd_rate`; here the anchor must cover the log rates.
    """
    a, t = _pair(anchor, test, metric)
    _check_overlap(anchor, test, (np.log(a[0]), np.log(t[0])), "log rate", min_overlap)
    return _integral("bd_psnr", a, t, method)


def overlap(anchor: AnyCurve, test: AnyCurve, metric: str = "psnr") -> float:
    """Share, 0 ... 1, of the test curve's range of quality that the anchor's covers."""
    a, t = (_usable(curve, metric)[1] for curve in (anchor, test))
    return _covered(a, t) if a.size and t.size else 0.0


def compare(
    points: Sequence[RDPoint],
    anchor: str,
    test: str,
    *,
    metric: str = "psnr",
    hull: bool = False,
    min_overlap: float = MIN_OVERLAP,
    seed: int = SEED,
) -> Comparison:
    """All that can be said of two codecs from the rows of their common images.

    Args:
        points: rows of one dataset; both codecs' are used.
        metric: one of ``METRICS``.
        hull: take the convex hull of each curve first, e.g. of a sweep over more than lambda.
        seed: of the bootstrap; the same rows give the same interval.

    Raises:
        LicError: a codec has no rows, or no image is common to both. Curves that do not compare
            are no error: ``refusal`` says why there is no number.
    """
    points, notes = rd.common(points, (anchor, test))

    def curves(rows: Sequence[RDPoint]) -> tuple[Curve, Curve]:
        a, t = rd.mean_curve(rows, anchor), rd.mean_curve(rows, test)
        return (rd.hull(a), rd.hull(t)) if hull else (a, t)

    a, t = curves(points)
    notes += [note for curve in (a, t) if (note := _left_out(curve, metric))]
    by_method: dict[str, float] = {}
    refusal = ""
    try:
        for method in METHODS:
            by_method[method] = bd_rate(a, t, method, min_overlap, metric)
    except LicError as error:
        by_method, refusal = {}, str(error)
    per_image: dict[str, float] = {}
    of_image: dict[str, list[RDPoint]] = {}
    for p in points:
        of_image.setdefault(p.image, []).append(p)
    why = ""
    for image, rows in sorted(of_image.items()):
        try:
            pair = curves(rows)
            per_image[image] = bd_rate(*pair, METHODS[0], min_overlap, metric)
        except LicError as error:
            why = why or f"{image}: {error}"
    if why and not refusal:
        missing = len(of_image) - len(per_image)
        notes.append(f"{missing} of {len(of_image)} images have no BD-rate of their own ({why})")
    values = np.array(list(per_image.values()))
    judged = not refusal and values.size > 0
    return Comparison(
        test=test,
        anchor=anchor,
        metric=metric,
        images=len(of_image),
        bd_rate=by_method.get(METHODS[0]),
        refusal=refusal,
        by_method=by_method,
        bd_psnr=_or_none(lambda: bd_psnr(a, t, METHODS[0], min_overlap, metric)),
        overlap=overlap(a, t, metric),
        per_image=per_image,
        mean=float(values.mean()) if judged else None,
        interval=bootstrap(values, seed) if judged else None,
        notes=tuple(notes),
    )


def bootstrap(values: Array, seed: int = SEED) -> tuple[float, float] | None:
    """95 % interval of the mean of ``values`` ``(n,)``: percentiles of means of ``n`` redrawn ones.

    Of few images it is too narrow, as any bootstrap is. ``None`` of fewer than 2.
    """
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _usable(curve: AnyCurve, metric: str) -> tuple[Array, Array]:
    """Rates and qualities by rising rate, without duplicates and what is not a finite dB."""
    quality = getattr(curve, metric, None) if metric in METRICS else None
    if quality is None:
        raise LicError(f"{curve.codec} has no {metric!r}: give one of {', '.join(METRICS)}")
    pairs = np.stack([np.asarray(curve.bpp, float), np.asarray(quality, float)])
    # `unique` sorts by rate, then by quality.
    bpp, values = np.unique(pairs[:, np.isfinite(pairs[1])], axis=1)
    return bpp, values


def _left_out(curve: AnyCurve, metric: str) -> str:
    """What :func:`_usable` dropped, in words."""
    missing = len(curve.bpp) - len(_usable(curve, metric)[0])
    if not missing:
        return ""
    return (
        f"{missing} of {len(curve.bpp)} points of {curve.codec} left out: twice the same, or "
        f"without a finite {METRICS[metric]}"
    )


def _pair(
    anchor: AnyCurve, test: AnyCurve, metric: str
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    if anchor.published != test.published:
        raise LicError(
            f"of {anchor.codec} and {test.codec} one is published and one measured here: measure "
            "both on the same images"
        )
    checked = []
    for curve in (anchor, test):
        bpp, quality = _usable(curve, metric)
        if len(bpp) < MIN_POINTS:
            raise LicError(
                f"{curve.codec} has {len(bpp)} point{'s' * (len(bpp) != 1)} with "
                f"{METRICS[metric]}; BD-rate takes at least {MIN_POINTS}"
            )
        falls = np.nonzero((np.diff(quality) <= 0) | (np.diff(bpp) <= 0))[0]
        if falls.size:
            at = falls[0]
            raise LicError(
                f"{METRICS[metric]} of {curve.codec} does not rise with rate between "
                f"{bpp[at]:.4g} and {bpp[at + 1]:.4g} bpp: take the convex hull, or leave out the "
                "worse point"
            )
        checked.append((bpp, quality))
    return checked[0], checked[1]


def _covered(anchor: Array, test: Array) -> float:
    low, high = max(anchor.min(), test.min()), min(anchor.max(), test.max())
    whole = float(np.ptp(test))
    return max(float(high - low), 0.0) / whole if whole else 0.0


def _check_overlap(
    anchor: AnyCurve, test: AnyCurve, values: tuple[Array, Array], what: str, least: float
) -> None:
    share = _covered(*values)
    if share < least:
        raise LicError(
            f"{anchor.codec} covers {share:.0%} of the {what} range of {test.codec}; a BD figure "
            f"takes at least {least:.0%}: add rates"
        )


def _integral(kind: str, a: tuple[Array, Array], t: tuple[Array, Array], method: str) -> float:
    import bjontegaard  # here, because it imports all of matplotlib.pyplot

    if method not in METHODS:
        raise LicError(f"there is no method {method!r}: give one of {', '.join(METHODS)}")
    # Overlap is judged above, as an error and not as a warning.
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    return float(getattr(bjontegaard, kind)(*a, *t, **options))


def _or_none(number: Callable[[], float]) -> float | None:
    try:
        return number()
    except LicError:
        return None
