"""What a report says of one dataset: curves, BD figures, hulls and the rate saved, from rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from lic_train.errors import LicError
from lic_train.rd import bd, published
from lic_train.rd import curves as rd
from lic_train.rd.bd import Comparison
from lic_train.rd.curves import Curve, RateSaved
from lic_train.rd.literature import set_of
from lic_train.rd.points import RDPoint
from lic_train.rd.published import PublishedCurve
from lic_train.report.series import Series


class OfHull(NamedTuple):
    """The best of all runs of a directory, and its BD-rate against each anchor, or why not."""

    curve: Curve
    bd_rate: dict[str, float | str]


@dataclass
class Section:
    """One dataset. All numbers are of the images that everything here has in common."""

    dataset: str
    images: dict[str, tuple[int, int]]
    """Name: width and height."""
    series: list[Series]
    """Codecs first, then anchors; of these images only."""
    curves: dict[str, Curve]
    of_image: dict[str, dict[str, Curve]]
    """Label, image: the curve of one image."""
    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    """By codec and what it is compared with."""
    saved: dict[tuple[str, str], list[RateSaved]] = field(default_factory=dict)
    hulls: list[OfHull] = field(default_factory=list)
    published: list[PublishedCurve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def codecs(self) -> list[Series]:
        """What was trained."""
        return [s for s in self.series if not s.conventional]

    @property
    def anchors(self) -> list[Series]:
        """What was not."""
        return [s for s in self.series if s.conventional]

    @property
    def points(self) -> list[RDPoint]:
        """The rows that everything is made of."""
        return [p for s in self.series for p in s.points]


def sections(series: Sequence[Series]) -> tuple[list[Section], list[str]]:
    """A section per dataset, and why a dataset has none.

    Raises:
        LicError: none has any.
    """
    made, notes = [], []
    for dataset in dict.fromkeys(p.dataset for s in series for p in s.points):
        there = [replace(s, points=[p for p in s.points if p.dataset == dataset]) for s in series]
        try:
            made.append(_section(dataset, [s for s in there if s.points]))
        except LicError as error:
            notes.append(f"{dataset}: {error}")
    if not made:
        raise LicError("; ".join(notes) or "there are no points: evaluate first")
    return made, notes


def _section(dataset: str, series: list[Series]) -> Section:
    notes: list[str] = []
    series = [s for s in (_finite(s, notes) for s in series) if s.points]
    leading = [s.label for s in series if not s.conventional] or [s.label for s in series]
    everything = [p for s in series for p in s.points]
    points, more = rd.common(everything, leading)
    notes += more
    images = {p.image for p in points}
    kept = []
    for s in series:
        mine = [p for p in points if p.codec == s.label]
        if s.label not in leading:
            try:
                mine = rd.common([*points, *s.points], [leading[0], s.label])[0]
            except LicError:
                mine = []
            mine = [p for p in mine if p.codec == s.label and p.image in images]
        if {p.image for p in mine} == images:
            kept.append(replace(s, points=mine))
        else:
            notes.append(f"{s.label} left out: it was not measured on the same images")
    sizes = {p.image: (p.width, p.height) for p in points}
    rows = {s.label: s.points for s in kept}
    section = Section(
        dataset,
        {image: sizes[image] for image in sorted(images)},
        kept,
        {label: rd.mean_curve(mine, label) for label, mine in rows.items()},
        {
            label: {i: rd.mean_curve([p for p in mine if p.image == i], label) for i in images}
            for label, mine in rows.items()
        },
        notes=notes,
    )
    for codec in section.codecs:
        for other in (*section.anchors, *section.codecs):
            if other.label == codec.label:
                continue
            both = [*codec.points, *other.points]
            compared = bd.compare(both, other.label, codec.label)
            section.comparisons[codec.label, other.label] = compared
            if other.conventional:
                saved = rd.rates_saved(both, codec.label, other.label)
                section.saved[codec.label, other.label] = saved
    section.hulls = _hulls(section)
    if name := set_of(section.images):
        section.published = published.curves(name)
    return section


def _finite(series: Series, notes: list[str]) -> Series:
    """Without the rates at which an image is lossless: their mean PSNR is infinite."""
    lossless = {(p.lmbda, p.rate) for p in series.points if math.isinf(p.psnr)}
    if not lossless:
        return series
    notes.append(
        f"{len(lossless)} rates of {series.label} left out: an image is lossless there, "
        "its PSNR infinite"
    )
    kept = [p for p in series.points if (p.lmbda, p.rate) not in lossless]
    return replace(series, points=kept)


def _hulls(section: Section) -> list[OfHull]:
    """Of every directory whose runs make more than one curve: what one would choose among them."""
    roots: dict[str, list[Curve]] = {}
    for s in section.codecs:
        for root in dict.fromkeys(run.root for run in s.runs):
            roots.setdefault(root, []).append(section.curves[s.label])
    hulls = []
    for root, curves in roots.items():
        if len(curves) < 2:
            continue
        arrays = ("bpp", "psnr", "ms_ssim", "ms_ssim_mean_of_db", "encode_s", "decode_s")
        merged = curves[0]._replace(
            codec=f"hull of {root}",
            rate=tuple(r for c in curves for r in c.rate),
            lmbda=tuple(v for c in curves for v in c.lmbda),
            **{name: np.concatenate([getattr(c, name) for c in curves]) for name in arrays},
        )
        best = rd.hull(merged)
        figures: dict[str, float | str] = {}
        for anchor in section.anchors:
            try:
                figures[anchor.label] = bd.bd_rate(section.curves[anchor.label], best)
            except LicError as error:
                figures[anchor.label] = str(error)
        hulls.append(OfHull(best, figures))
    return hulls


def point_names(curve: Curve, conventional: bool = False) -> list[str]:
    """What tells the operating points of a curve apart: lambda, rate or, of an anchor, quality."""
    several = len(set(curve.rate)) > 1
    names = []
    for lmbda, rate in zip(curve.lmbda, curve.rate, strict=True):
        parts = [] if lmbda is None else [f"λ={lmbda:g}"]
        if conventional or several:
            parts.append(f"{'quality' if conventional else 'rate'} {rate}")
        names.append(", ".join(parts))
    return names
