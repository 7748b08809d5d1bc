"""Rate-distortion curves of rows: mean over images, common images, hull, rate at equal PSNR.

Rates are measured bits per pixel; estimated ones are not looked at here. An interpolated rate is
PCHIP on log rate over PSNR and never extrapolates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lic_train.errors import LicError
from lic_train.rd.metrics import ms_ssim_db
from lic_train.rd.points import RDPoint

Array = NDArray[np.float64]


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

    @property
    def ms_ssim_db_of_mean(self) -> Array:
        """dB of the mean, as most papers have it; never the same as ``ms_ssim_mean_of_db``."""
        return np.array([ms_ssim_db(value) for value in self.ms_ssim])

    @property
    def published(self) -> bool:
        """Whether it was read in a paper and not measured here."""
        return False


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
    same_size: int
    """How many of its pictures are as large as the anchor's; the others compare with nothing."""


def mean_curve(points: Sequence[RDPoint], codec: str) -> Curve:
    """The curve of ``codec``: one point per (lmbda, rate), averaged over images.

    Raises:
        LicError: the codec has no rows, they mix datasets or contradict each other, or its
            operating points were measured on different images, so that their means do not compare.
    """
    mine = _distinct(points, codec)
    if len({p.dataset for p in mine}) > 1:
        raise LicError(f"the points of {codec} mix datasets: choose one")
    groups: dict[tuple[float | None, int], list[RDPoint]] = {}
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
        ms_ssim_mean_of_db=np.array([mean([ms_ssim_db(p.ms_ssim) for p in row]) for row in rows]),
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


def rates_saved(points: Sequence[RDPoint], codec: str, anchor: str) -> list[RateSaved]:
    """Rate saved by each operating point of ``codec``, both ways, by increasing rate.

    Raises:
        LicError: as ``mean_curve``.
    """
    curve, reference = mean_curve(points, codec), mean_curve(points, anchor)
    of_image: dict[str, list[RDPoint]] = {}
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
                same_size=len(same),
            )
        )
    return result


def nearest(points: Sequence[RDPoint], bpp: float, codec: str = "jpeg") -> int:
    """The rate (of an anchor: quality) of ``codec`` whose mean bits per pixel is nearest."""
    curve = mean_curve(points, codec)
    return curve.rate[int(np.argmin(np.abs(curve.bpp - bpp)))]


def hull(curve: Curve) -> Curve:
    """The points of a curve that lie on its upper convex hull in bits per pixel and PSNR.

    What is left is what a user would choose among: PSNR rises with rate, by less and less.
    Points of infinite PSNR are left out.
    """
    kept: list[int] = []
    order = sorted(
        np.flatnonzero(np.isfinite(curve.psnr)), key=lambda i: (curve.bpp[i], curve.psnr[i])
    )
    for i in order:
        if kept and curve.psnr[i] <= curve.psnr[kept[-1]]:
            continue
        while kept and (
            curve.bpp[kept[-1]] == curve.bpp[i]
            or (len(kept) > 1 and _slope(curve, kept[-2], kept[-1]) <= _slope(curve, kept[-1], i))
        ):
            kept.pop()
        kept.append(int(i))
    arrays = ("bpp", "psnr", "ms_ssim", "ms_ssim_mean_of_db", "encode_s", "decode_s")
    return curve._replace(
        rate=tuple(curve.rate[i] for i in kept),
        lmbda=tuple(curve.lmbda[i] for i in kept),
        **{name: getattr(curve, name)[kept] for name in arrays},
    )


def common(points: Sequence[RDPoint], codecs: Sequence[str]) -> tuple[list[RDPoint], list[str]]:
    """The rows of ``codecs`` on the images that all of them have, at the same size, at every rate.

    A rate whose pictures are smaller than the codec's others (a coarse layer) compares with nothing
    and is left out first.

    Returns:
        The rows, and a line for every kind of thing that was left out.

    Raises:
        LicError: a codec has no rows, or no image is common to all.
    """
    notes: list[str] = []
    sizes: dict[str, dict[str, tuple[int, int]]] = {}
    groups: dict[tuple[str, float | None, int], list[RDPoint]] = {}
    for codec in dict.fromkeys(codecs):
        mine = _distinct(points, codec)
        own: dict[str, tuple[int, int]] = {}
        for p in mine:
            own[p.image] = max(own.get(p.image, (0, 0)), (p.width, p.height))
        whole: dict[tuple[float | None, int], list[RDPoint]] = {}
        for p in mine:
            whole.setdefault((p.lmbda, p.rate), []).append(p)
        coarse = [
            k for k, g in whole.items() if any((p.width, p.height) != own[p.image] for p in g)
        ]
        if coarse:
            notes.append(f"{len(coarse)} rates of {codec} left out: their pictures are smaller")
        groups |= {(codec, *k): group for k, group in whole.items() if k not in coarse}
        sizes[codec] = own
    everything = set().union(*sizes.values())
    shared = {i for i in everything if len({own.get(i) for own in sizes.values()}) == 1}
    for group in groups.values():
        shared &= {p.image for p in group}
    names = " and ".join(sizes)
    if not shared:
        raise LicError(f"no image is common to {names} at the same size: evaluate the same images")
    if left := len(everything) - len(shared):
        notes.append(
            f"only the {len(shared)} images common to {names} at the same size are compared; "
            f"{left} left out"
        )
    return [p for group in groups.values() for p in group if p.image in shared], notes


def _distinct(points: Sequence[RDPoint], codec: str) -> list[RDPoint]:
    """The rows of a codec; what several runs measured alike (their anchor) counts once."""
    rows: dict[tuple[str, str, float | None, int], RDPoint] = {}
    for p in points:
        if p.codec == codec:
            first = rows.setdefault((p.dataset, p.image, p.lmbda, p.rate), p)
            if (first.bpp, first.psnr) != (p.bpp, p.psnr):
                raise LicError(
                    f"{codec} has two results for {p.image} at one rate, {first.bpp:.4f} and "
                    f"{p.bpp:.4f} bpp: give different runs different names"
                )
    if not rows:
        raise LicError(f"there are no points of {codec}")
    return list(rows.values())


def _slope(curve: Curve, i: int, j: int) -> float:
    return float((curve.psnr[j] - curve.psnr[i]) / (curve.bpp[j] - curve.bpp[i]))
