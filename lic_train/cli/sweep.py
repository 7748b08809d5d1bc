"""Look at a sweep: which point is where, and why one failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("what", choices=["status"])
    parser.add_argument("sweep", type=Path, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    """One row per point, then the count of each state; exit code 1 if a point failed."""
    from collections import Counter

    from rich import box
    from rich.table import Table

    from lic_train.figures.terminal import print_table
    from lic_train.sweep.state import BROKEN, FAILED, points_of, status

    states = [status(point) for point in points_of(options.sweep)]
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("point", "state", "step", "bpp", "PSNR dB", "machine", "why"):
        right = header in ("step", "bpp", "PSNR dB")
        table.add_column(
            header, justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for s in states:
        bpp, psnr = ("" if v is None else f"{v:.{n}f}" for v, n in ((s.bpp, 3), (s.psnr, 2)))
        step = "" if s.step is None else str(s.step)
        table.add_row(s.label, s.state, step, bpp, psnr, s.machine, s.why)
    print_table(table)
    counts = Counter(s.state for s in states)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts[FAILED] or counts[BROKEN]:
        sys.exit(1)
