"""Rows of a listing are chosen by their settings and sorted by what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from lic_train.errors import DataError
from lic_train.runs.listing import Row

_OF_A_RUN = ("name", "state", "step", "s_per_step", "end_in_s", "lmbda", "bpp", "psnr")
SORTS = (*_OF_A_RUN, "bd_rate", "machine", "age_s")
OF_THE_ROW = ("kind", "state", "lmbda", "machine", "name")


def where(rows: Sequence[Row], conditions: Sequence[str]) -> list[Row]:
    """The rows for which every ``KEY=VALUE`` holds.

    A key is a setting, ``model.N``, or its last part where that is enough, or a column. Numbers
    are compared as numbers.

    Raises:
        DataError: a condition has another form, or no row knows its key.
    """
    kept = list(rows)
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals or not key:
            raise DataError(f"--where {condition}: give KEY=VALUE, e.g. lmbda=0.0067")
        known = {k for row in rows for k in (*row.settings, *OF_THE_ROW)}
        names = {k for k in known if k == key or k.endswith(f".{key}")}
        if not names:
            near = get_close_matches(key, sorted({*known, *(k.split(".")[-1] for k in known)}), 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise DataError(f"--where {condition}: no run has a setting {key}{hint}")
        kept = [row for row in kept if any(_equal(_value(row, name), value) for name in names)]
    return kept


def ordered(rows: Sequence[Row], key: str, reverse: bool = False) -> list[Row]:
    """Rows by a column, those without a value last either way."""

    def of(row: Row) -> Any:
        value = getattr(row, key)
        return min(value.values(), default=None) if isinstance(value, dict) else value

    known = [row for row in rows if of(row) not in (None, "")]
    return [
        *sorted(known, key=of, reverse=reverse),
        *(row for row in rows if of(row) in (None, "")),
    ]


def _value(row: Row, name: str) -> Any:
    if name in row.settings:
        return row.settings[name]
    return getattr(row, name) if name in OF_THE_ROW else None


def _equal(value: Any, given: str) -> bool:
    try:
        return math.isclose(float(value), float(given), rel_tol=1e-9)
    except (TypeError, ValueError):
        words = {"none": "null", "on": "true", "off": "false"}
        text = "null" if value is None else str(value).lower()
        return words.get(text, text) == words.get(given.lower(), given.lower())
