"""Where the bits went that files hold beyond the estimate, of the runs that counted them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields, replace
from html import escape
from pathlib import Path
from typing import Any

from lic_train.errors import DataError
from lic_train.evaluation.rate_gap import CAUSES, RateGap
from lic_train.report.html_tables import table
from lic_train.report.section import Section, point_names
from lic_train.utils.plain import MOST_TABLE, check_plain_file

WHOLE = ("rate", "bytes")
TEXT = ("dataset", "image", "codec")
MOST = 1e18


def read_gaps(path: Path) -> list[RateGap]:
    """The rows of a run's ``rate_gap.csv``; none where there is no such file.

    Raises:
        DataError: it is no such table.
    """

    def value(column: str, text: str) -> Any:
        if column in TEXT:
            return text
        if not text and column == "lmbda":
            return None
        number = int(text) if column in WHOLE else float(text)
        if not -MOST <= number <= MOST:  # nan is refused too
            raise ValueError(f"{column} is {text[:20]}")
        return number

    try:
        check_plain_file(path, MOST_TABLE)
        with path.open(newline="") as file:
            columns = [field.name for field in fields(RateGap)]
            return [
                RateGap(**{c: value(c, row[c]) for c in columns}) for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is not a table of rate gaps ({error}): evaluate again") from None


def gaps_of(section: Section) -> list[RateGap]:
    """Rows of the images that the section compares, each under its codec's name in the report."""
    found = []
    for codec in section.codecs:
        for lmbda, run in codec.of_lmbda.items():
            names = {p.codec for p in run.points if p.bpp_estimated is not None}
            for gap in read_gaps(run.path / "rate_gap.csv"):
                here = gap.dataset == section.dataset and gap.image in section.images
                if here and gap.lmbda == lmbda and gap.codec in names:
                    found.append(replace(gap, codec=codec.label))
    return found


def gaps_table(section: Section, gaps: Sequence[RateGap]) -> str:
    """A row per operating point: each cause in percent of the estimate, over all images."""
    rows = []
    for codec in section.codecs:
        curve = section.curves[codec.label]
        for i, name in enumerate(point_names(curve)):
            key = (codec.label, curve.lmbda[i], curve.rate[i])
            mine = [g for g in gaps if (g.codec, g.lmbda, g.rate) == key]
            estimated = sum(g.estimated for g in mine)
            if estimated:
                shares = [100 * sum(getattr(g, c) for g in mine) / estimated for c in CAUSES]
                cells = [f"{share:+.3f}" for share in (sum(shares), *shares)]
                rows.append([escape(codec.label), escape(name), *cells])
    return table(["codec", "point", "all", *CAUSES], rows)
