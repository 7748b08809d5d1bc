"""Rate-distortion curves that others published, with their source: read, never measured here.

``published.jsonl`` holds one curve a line: means over a whole dataset. They were made by other
programs on other machines and, of many learned codecs, before pixels were rounded to 8 bits
(0.004 to 0.06 dB more), so they are drawn as published and never compared with measured ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from lic_train.errors import DataError
from lic_train.rd.curves import Array
from lic_train.rd.metrics import ms_ssim_db


@dataclass(frozen=True)
class PublishedCurve:
    """One published curve by rising rate; a metric that was not published is all NaN."""

    dataset: str
    codec: str
    trained_for: str
    """"mse", "ms-ssim", or "" for what is not trained."""
    pixels: str
    """What its PSNR is of: "8-bit", "float" or "not said"."""
    source: str
    """Repository, commit and file."""
    bpp: Array
    psnr: Array
    """dB of RGB: per image, then the mean."""
    ms_ssim: Array
    """[0, 1], the mean over images."""

    published = True

    @property
    def ms_ssim_db_of_mean(self) -> Array:
        """dB of the mean, the only averaging that a published mean allows."""
        return np.array([ms_ssim_db(value) for value in self.ms_ssim])

    @property
    def label(self) -> str:
        """What a legend calls it."""
        objective = ", MS-SSIM" if self.trained_for == "ms-ssim" else ""
        return f"{self.codec}{objective} (published)"


def datasets() -> list[str]:
    """Names of the datasets there are curves of."""
    return sorted({line["dataset"] for line in _lines()})


def curves(
    dataset: str, codecs: Collection[str] | None = None, trained_for: str = "mse"
) -> list[PublishedCurve]:
    """The curves of a dataset, in alphabetical order.

    Args:
        dataset: one of :func:`datasets`.
        codecs: only these; ``None``: all.
        trained_for: "mse" or "ms-ssim", of learned codecs; the others come either way.

    Raises:
        DataError: nothing was published of this dataset, or of one of ``codecs``.
    """
    found = [
        PublishedCurve(**(line | {name: _array(line[name]) for name in ("bpp", "psnr", "ms_ssim")}))
        for line in _lines()
        if line["dataset"] == dataset and line["trained_for"] in ("", trained_for)
    ]
    if not found:
        raise DataError(f"no published curves of {dataset!r}: there are {', '.join(datasets())}")
    known = [curve.codec for curve in found]
    if unknown := set(codecs or ()) - set(known):
        raise DataError(
            f"{dataset} has no published {', '.join(sorted(unknown))}: there are {', '.join(known)}"
        )
    return [curve for curve in found if codecs is None or curve.codec in codecs]


def _lines() -> list[dict[str, Any]]:
    text = resources.files("lic_train.rd").joinpath("published.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _array(values: list[float | None]) -> Array:
    return np.array([np.nan if v is None else v for v in values], dtype=float)
