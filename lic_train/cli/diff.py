"""Compare two runs: the settings, commit, data and environment that differ."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("old", type=Path, metavar="RUN")
    parser.add_argument("new", type=Path, metavar="RUN")


def run(options: argparse.Namespace) -> None:
    """Print a line for everything that differs, under what it is about."""
    from lic_train.runs.differences import differences
    from lic_train.utils.plain import printable

    found = differences(options.old, options.new)
    for about in dict.fromkeys(d.about for d in found):
        print(about)
        own = [d for d in found if d.about == about]
        width = max(len(d.key) for d in own)
        for d in own:
            old, new = ("-" if value is None else str(value) for value in (d.old, d.new))
            print(printable(f"  {d.key:{width}}  {old}  ->  {new}", 1000))
    if not found:
        print("nothing differs: settings, commit, data and environment are the same")
