"""The table of RD points: one row per image and rate, its CSV file, and the means over images."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lic_train.errors import DataError
from lic_train.rd import metrics
from lic_train.utils.files import write_whole
from lic_train.utils.plain import MOST_TABLE, check_plain_file

FORMULA = tuple("=+-@\t\r")
"""First characters of texts that spreadsheets run."""
MOST = 1e12
RANGES = {
    **dict.fromkeys(("rate", "bytes"), (0, MOST)),
    **dict.fromkeys(("width", "height"), (1, MOST)),
    **dict.fromkeys(("encode_s", "decode_s", "lpips", "dists", "bpp_estimated"), (0, MOST)),
    "bpp": (1e-12, MOST),
    "psnr": (-1e3, 1e3),
    "ms_ssim": (-1.001, 1.001),
    "lmbda": (-MOST, MOST),
}
"""Of each column, what no measurement lies outside of."""
LONGEST = 4096
"""Characters of a name: file systems take fewer in a path."""


@dataclass(frozen=True)
class RDPoint:
    """One image at one rate. The fields, in this order, are the columns of the CSV."""

    dataset: str
    image: str
    codec: str
    rate: int
    """Index of the operating point; of an anchor: its quality setting."""
    lmbda: float | None
    width: int
    height: int
    bytes: int
    """Length of the file, header included."""
    bpp: float
    """``8 bytes / (width height)``, over the images of the signal: measured."""
    bpp_estimated: float | None
    """``-sum log2 p / (width height)``: what the likelihoods promise. Never shown as a rate."""
    psnr: float
    """dB, 8-bit; ``inf`` when lossless."""
    ms_ssim: float
    """[0, 1], 8-bit; NaN for images too small for it."""
    encode_s: float
    """Seconds from pixels on the device to the file's bytes in memory; writing is not timed."""
    decode_s: float
    """Seconds from the file's bytes in memory to 8-bit pixels; reading is not timed."""
    device: str
    lpips: float | None = None
    """Where it was asked for, 0 when equal; see ``perceptual``."""
    dists: float | None = None


def write_csv(points: Sequence[Any], path: Path, row: Any = RDPoint) -> None:
    """Write one row per point, a dataclass ``row``, atomically. ``None`` and NaN are empty; floats
    lose nothing."""
    columns = [f.name for f in fields(row)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for point in points:
        values = [getattr(point, c) for c in columns]
        writer.writerow(["" if v is None or v != v else _cell(v) for v in values])
    # A name whose bytes are no UTF-8, e.g. of a folder, is written as \xE9.
    write_whole(path, text.getvalue().encode(errors="backslashreplace"))


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a quote in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value


def read_csv(path: Path) -> list[RDPoint]:
    """Read what ``write_csv`` wrote; columns it does not know are ignored.

    Raises:
        DataError: no such file, a column is missing, or a value is not of its column's type.
    """
    columns = [f.name for f in fields(RDPoint)]
    integers = ("rate", "width", "height", "bytes")
    texts = ("dataset", "image", "codec", "device")
    optional = ("lmbda", "bpp_estimated", "lpips", "dists")
    empty = (*optional, "ms_ssim", "encode_s", "decode_s")
    later = ("lpips", "dists")  # than some tables

    def value(column: str, text: str) -> Any:
        if column in texts:
            if len(text) > LONGEST or "\0" in text:
                raise ValueError(f"{column} is no name")
            return text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text
        if not text and column in empty:
            return None if column in optional else math.nan
        number = int(text) if column in integers else float(text)
        lossless = column == "psnr" and number == math.inf
        low, high = RANGES[column]
        if not (low <= number <= high or lossless):  # nan is refused too
            raise ValueError(f"{column} is {text[:20]}")
        return number

    try:
        check_plain_file(path, MOST_TABLE)
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if missing := set(columns) - {*(table.fieldnames or ()), *later}:
                raise ValueError(f"without {', '.join(sorted(missing))}")
            return [RDPoint(**{c: value(c, row.get(c, "")) for c in columns}) for row in table]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is not a table of RD points ({error}): evaluate again") from error


def summary(points: Sequence[RDPoint]) -> dict[str, Any]:
    """What ``rd_summary.json`` holds: per dataset, codec, lmbda and rate, the means over images.

    A mean that is not finite (a lossless image, MS-SSIM of small images) is ``None``, because JSON
    has no such numbers. MS-SSIM means are over the ``images_with_ms_ssim`` alone.
    """
    groups: dict[tuple[str, str, float | None, int], list[RDPoint]] = {}
    for p in points:
        groups.setdefault((p.dataset, p.codec, p.lmbda, p.rate), []).append(p)
    return {
        "convention": "8-bit images; each value per image, then the mean over images; "
        "bpp from the length of the file",
        "points": [
            dict(zip(("dataset", "codec", "lmbda", "rate"), key, strict=True)) | _means(group)
            for key, group in groups.items()
        ],
    }


def write_summary(points: Sequence[RDPoint], path: Path) -> None:
    """Write ``summary(points)`` as JSON, atomically."""
    write_whole(path, (json.dumps(summary(points), indent=2, allow_nan=False) + "\n").encode())


def _means(group: Sequence[RDPoint]) -> dict[str, Any]:
    def mean(values: Iterable[float]) -> float | None:
        result = float(np.mean(list(values) or [math.nan]))
        return result if math.isfinite(result) else None

    estimates = [p.bpp_estimated for p in group if p.bpp_estimated is not None]
    similarities = [p.ms_ssim for p in group if not math.isnan(p.ms_ssim)]
    similarity = mean(similarities)
    of_mean = math.nan if similarity is None else metrics.ms_ssim_db(similarity)
    return {
        "images": len(group),
        "bpp": mean(p.bpp for p in group),
        "bpp_estimated": mean(estimates) if len(estimates) == len(group) else None,
        "psnr": mean(p.psnr for p in group),
        "images_with_ms_ssim": len(similarities),
        "ms_ssim": similarity,
        "ms_ssim_mean_of_db": mean(map(metrics.ms_ssim_db, similarities)),
        "ms_ssim_db_of_mean": mean([of_mean]),
        "lpips": mean(p.lpips for p in group if p.lpips is not None),
        "dists": mean(p.dists for p in group if p.dists is not None),
        "encode_s": mean(p.encode_s for p in group),
        "decode_s": mean(p.decode_s for p in group),
    }
