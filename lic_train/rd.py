"""Rate-distortion curves of rows: mean over images, rate at equal PSNR, BD-rate.

Rates are measured bits per pixel; estimated ones are not looked at here. An interpolated rate is
PCHIP on log rate over PSNR and never extrapolates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lic_train.errors import LicError

Array = NDArray[np.float64]


class Point(Protocol):
    """The columns of a row that curves need; ``evaluation.RDPoint`` has them."""

    @property
    def dataset(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def codec(self) -> str: ...
    @property
    def rate(self) -> int: ...
    @property
    def lmbda(self) -> float | None: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def bpp(self) -> float: ...
    @property
    def psnr(self) -> float: ...
    @property
    def ms_ssim(self) -> float: ...
    @property
    def encode_s(self) -> float: ...
    @property
    def decode_s(self) -> float: ...


class Curve(NamedTuple):
    """Operating points of one codec by increasing rate, each a mean over the same images."""

    codec: str
    rate: tuple[int, ...]
    lmbda: tuple[float | None, ...]
    bpp: Array
    """Bits per pixel of the files."""
    psnr: Array
    """dB: per image, then the mean."""
    ms_ssim: Array
    """[0, 1]: the mean over images it is defined for; NaN where there are none."""
    ms_ssim_mean_of_db: Array
    """dB: per image, then the mean, as PSNR is."""
    encode_s: Array
    decode_s: Array
    images: int


class RateSaved(NamedTuple):
    """Rate one operating point saves against an anchor at equal PSNR, percent, positive = saved.

    The two means differ: on the mean curve, costly images weigh most; over images, all weigh the
    same and those whose PSNR the anchor does not reach are left out. NaN where nothing compares:
    outside the anchor's PSNR, or at another size than the anchor's images have (a coarse layer).
    """

    rate: int
    lmbda: float | None
    on_mean_curve: float
    mean_over_images: float
    images: int
    """How many images ``mean_over_images`` is of."""


def mean_curve(points: Sequence[Point], codec: str) -> Curve:
    """The curve of ``codec``: one point per (lmbda, rate), averaged over images.

    Raises:
        LicError: the codec has no rows, they mix datasets, or its operating points were measured
            on different images, so that their means do not compare.
    """
    mine = [p for p in points if p.codec == codec]
    if not mine:
        raise LicError(f"there are no points of {codec}")
    if len({p.dataset for p in mine}) > 1:
        raise LicError(f"the points of {codec} mix datasets: choose one")
    groups: dict[tuple[float | None, int], list[Point]] = {}
    for p in mine:
        groups.setdefault((p.lmbda, p.rate), []).append(p)
    images = sorted(p.image for p in next(iter(groups.values())))
    if any(sorted(p.image for p in group) != images for group in groups.values()):
        raise LicError(f"the points of {codec} are not all of the same images: evaluate again")

    def mean(values: list[float]) -> float:
        defined = [v for v in values if not math.isnan(v)]
        return float(np.mean(defined)) if defined else math.nan

    ordered = sorted(groups.items(), key=lambda item: mean([p.bpp for p in item[1]]))
    rows = [group for _, group in ordered]
    return Curve(
        codec=codec,
        rate=tuple(rate for (_, rate), _ in ordered),
        lmbda=tuple(lmbda for (lmbda, _), _ in ordered),
        bpp=np.array([mean([p.bpp for p in row]) for row in rows]),
        psnr=np.array([mean([p.psnr for p in row]) for row in rows]),
        ms_ssim=np.array([mean([p.ms_ssim for p in row]) for row in rows]),
        ms_ssim_mean_of_db=np.array([mean([_db(p.ms_ssim) for p in row]) for row in rows]),
        encode_s=np.array([mean([p.encode_s for p in row]) for row in rows]),
        decode_s=np.array([mean([p.decode_s for p in row]) for row in rows]),
        images=len(images),
    )


def rate_at(curve_bpp: Array, curve_psnr: Array, psnr: float) -> float:
    """Bits per pixel at which a curve has this PSNR: PCHIP of log rate over PSNR.

    Points that cost more for no more PSNR are left out, as nobody would choose them.

    Returns:
        NaN outside the curve's range or with fewer than 2 points.
    """
    from scipy.interpolate import PchipInterpolator

    order = np.argsort(curve_bpp)
    bpp, quality = np.asarray(curve_bpp)[order], np.asarray(curve_psnr)[order]
    best = np.concatenate([[-np.inf], np.maximum.accumulate(quality)[:-1]])
    keep = np.isfinite(quality) & (quality > best)
    if keep.sum() < 2 or not quality[keep][0] <= psnr <= quality[keep][-1]:
        return math.nan
    return float(np.exp(PchipInterpolator(quality[keep], np.log(bpp[keep]))(psnr)))


def rate_saved(bpp: float, psnr: float, anchor: Curve) -> float:
    """Percent of the anchor's rate at this PSNR that ``bpp`` saves; NaN outside its range."""
    return 100 * (1 - bpp / rate_at(anchor.bpp, anchor.psnr, psnr))


def rates_saved(points: Sequence[Point], codec: str, anchor: str) -> list[RateSaved]:
    """Rate saved by each operating point of ``codec``, both ways, by increasing rate.

    Raises:
        LicError: as ``mean_curve``.
    """
    curve, reference = mean_curve(points, codec), mean_curve(points, anchor)
    of_image: dict[str, list[Point]] = {}
    for p in points:
        if p.codec == anchor:
            of_image.setdefault(p.image, []).append(p)
    sizes = {image: (own[0].width, own[0].height) for image, own in of_image.items()}
    curves = {image: mean_curve(own, anchor) for image, own in of_image.items()}
    result = []
    for i, (lmbda, rate) in enumerate(zip(curve.lmbda, curve.rate, strict=True)):
        mine = [p for p in points if (p.codec, p.lmbda, p.rate) == (codec, lmbda, rate)]
        same = [p for p in mine if sizes.get(p.image) == (p.width, p.height)]
        each = [rate_saved(p.bpp, p.psnr, curves[p.image]) for p in same]
        each = [value for value in each if not math.isnan(value)]
        # The means compare only if both are of the very same pictures.
        whole = len(same) == len(mine) == reference.images
        result.append(
            RateSaved(
                rate=rate,
                lmbda=lmbda,
                on_mean_curve=rate_saved(curve.bpp[i], curve.psnr[i], reference)
                if whole
                else math.nan,
                mean_over_images=float(np.mean(each)) if each else math.nan,
                images=len(each),
            )
        )
    return result


def nearest(points: Sequence[Point], bpp: float, codec: str = "jpeg") -> int:
    """The rate (of an anchor: quality) of ``codec`` whose mean bits per pixel is nearest."""
    curve = mean_curve(points, codec)
    return curve.rate[int(np.argmin(np.abs(curve.bpp - bpp)))]


def bd_rate(anchor: Curve, test: Curve, method: str = "pchip", min_overlap: float = 0.75) -> float:
    """Bjontegaard delta rate of ``test`` against ``anchor`` in RGB PSNR, percent; negative saves.

    Args:
        anchor, test: curves of the same images.
        method: of interpolating log rate over PSNR: ``pchip``, ``akima`` or ``cubic``.
        min_overlap: the share of the test curve's PSNR range that the anchor's must cover.

    Raises:
        LicError: fewer than 4 points, PSNR that does not rise with rate, or too little overlap;
            the integration would give a number all the same.
    """
    for curve in (anchor, test):
        if len(curve.bpp) < 4:
            raise LicError(f"{curve.codec} has {len(curve.bpp)} points; BD-rate takes at least 4")
        if not (np.isfinite(curve.psnr).all() and (np.diff(curve.psnr) > 0).all()):
            raise LicError(f"PSNR of {curve.codec} does not rise with rate: BD-rate has no meaning")
    low = max(anchor.psnr[0], test.psnr[0])
    high = min(anchor.psnr[-1], test.psnr[-1])
    overlap = max(high - low, 0) / (test.psnr[-1] - test.psnr[0])
    if overlap < min_overlap:
        raise LicError(
            f"{anchor.codec} covers {overlap:.0%} of the PSNR range of {test.codec}; BD-rate takes "
            f"at least {min_overlap:.0%}: add rates"
        )
    import bjontegaard  # here, because it imports all of matplotlib.pyplot

    value = bjontegaard.bd_rate(
        anchor.bpp,
        anchor.psnr,
        test.bpp,
        test.psnr,
        method=method,
        require_matching_points=False,
        min_overlap=0,  # judged above, as an error and not as a warning
    )
    return float(value)


def _db(value: float) -> float:
    """MS-SSIM in dB; 1 is infinite."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)
