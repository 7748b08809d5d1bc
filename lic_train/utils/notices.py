"""What a user should know and no fault stops: one line on stderr, once per process."""

from __future__ import annotations

import multiprocessing
import os
import sys

from lic_train.utils.plain import LINE, printable

_said: set[str] = set()


def notice(line: str) -> None:
    """Print ``lic_train: line``, unless this process said it before.

    Loader processes and ranks other than the first stay silent: the first one says it.
    """
    other_rank = os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("NODE_RANK", "0") != "0"
    if line in _said or other_rank or multiprocessing.parent_process() is not None:
        return
    _said.add(line)
    print(f"lic_train: {printable(line, LINE)}", file=sys.stderr)


def counted(number: int, what: str) -> str:
    """``1 image``, ``3 images``."""
    return f"{number} {what}{'s' * (number != 1)}"
