"""The few numbers of a run that a log keeps: its finest point, and what that saves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lic_train.errors import LicError
from lic_train.rd.bd import bd_rate
from lic_train.rd.curves import mean_curve, rates_saved
from lic_train.rd.points import RDPoint


def headline(points: Sequence[RDPoint], name: str, prefix: str) -> dict[str, float]:
    """Means over the images, by names that no codec changes; what is not finite is left out.

    ``<prefix>/{bpp,bpp_estimated,psnr,ms_ssim}`` are of the finest rate; a codec of several has
    each as ``<prefix>/rate<r>/...`` too. ``<prefix>/saved/<anchor>`` is the percentage of an
    anchor's rate that the finest point saves at equal PSNR on the mean curve, and
    ``<prefix>/bd_rate/<anchor>`` the BD-rate, where the codec has the points that it takes.

    Args:
        points: rows of one dataset; those of other codecs than ``name`` are anchors.

    Raises:
        LicError: as ``rd.mean_curve``.
    """
    own = [p for p in points if p.codec == name]
    rates = sorted({p.rate for p in own})
    values: dict[str, float] = {}
    for rate in rates:
        group = [p for p in own if p.rate == rate]
        means = {k: _mean(group, k) for k in ("bpp", "bpp_estimated", "psnr", "ms_ssim")}
        if len(rates) > 1:
            values |= {f"{prefix}/rate{rate:02d}/{k}": v for k, v in means.items()}
        if rate == rates[-1]:
            values |= {f"{prefix}/{k}": v for k, v in means.items()}
    for anchor in dict.fromkeys(p.codec for p in points if p.codec != name):
        finest = next(s for s in rates_saved(points, name, anchor) if s.rate == rates[-1])
        values[f"{prefix}/saved/{anchor}"] = finest.on_mean_curve
        try:
            value = bd_rate(mean_curve(points, anchor), mean_curve(points, name))
        except LicError:  # too few points, or too little overlap
            continue
        values[f"{prefix}/bd_rate/{anchor}"] = value
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def _mean(group: Sequence[RDPoint], column: str) -> float:
    values = [getattr(p, column) for p in group]
    known = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan
