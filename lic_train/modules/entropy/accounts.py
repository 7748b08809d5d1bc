"""Accounts of what coders were told and what they wrote, kept only while somebody asks.

Where symbols become bytes, the coding layer adds an entry: a function, so that the work of it is
done after the coding, and not at all if nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]


class Entry(NamedTuple):
    """One run of a coder over ``n`` symbols, in any one order."""

    bytes: int
    """What the coder wrote."""
    bits: _Array
    """``(n,)``: what each symbol costs by the integer tables it was coded with, all parts of an
    escape included."""
    estimated: _Array
    """``(n,)``: ``-log2`` of its likelihood, as the loss and the estimate have it."""
    escaped: NDArray[np.bool_]
    """``(n,)``: whether it lay outside its table."""


_OPEN: ContextVar[list[Callable[[], Entry]] | None] = ContextVar("accounts", default=None)


@contextmanager
def kept() -> Iterator[list[Callable[[], Entry]]]:
    """While this is entered, whatever is coded in this thread is added to the list it gives."""
    entries: list[Callable[[], Entry]] = []
    token = _OPEN.set(entries)
    try:
        yield entries
    finally:
        _OPEN.reset(token)


def add(entry: Callable[[], Entry]) -> None:
    """Add an entry to the accounts, if they are kept."""
    entries = _OPEN.get()
    if entries is not None:
        entries.append(entry)
