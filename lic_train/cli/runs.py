"""List runs, sweeps, chains and evaluations: how far each is, and what came out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic_train.runs.choose import SORTS

if TYPE_CHECKING:
    from lic_train.runs.listing import Row

DEFAULT = ("runs", "multirun")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "directories",
        type=Path,
        nargs="*",
        metavar="DIR",
        help=f"folders to look into (default: {' and '.join(DEFAULT)} here)",
    )
    parser.add_argument("--sort", choices=SORTS, metavar="COLUMN", help=", ".join(SORTS))
    parser.add_argument("--reverse", action="store_true", help="sort from the largest")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only those with this setting, e.g. lmbda=0.0067 or state=running; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="everything known, as JSON")


def run(options: argparse.Namespace) -> None:
    """Print a row each."""
    from lic_train.errors import DataError
    from lic_train.runs.choose import ordered, where
    from lic_train.runs.listing import rows

    given = options.directories or [Path(name) for name in DEFAULT if Path(name).is_dir()]
    if not given:
        raise DataError(f"there is no {' and no '.join(DEFAULT)} here: give folders of runs")
    found = where(rows(given), options.where)
    if options.sort:
        found = ordered(found, options.sort, options.reverse)
    if options.json:
        print(_json(found))
        return
    _print(found, indent=not options.sort)
    count = f"{len(found)} row{'s' * (len(found) != 1)}"
    states = dict.fromkeys(row.state for row in found)
    print(", ".join([count, *(f"{sum(r.state == s for r in found)} {s}" for s in states)]))


def _json(found: list[Row]) -> str:
    import json
    from dataclasses import asdict

    return json.dumps([asdict(row) for row in found], indent=1, default=str)


def _print(found: list[Row], indent: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lic_train.utils.plain import printable

    # A pipe gets whole lines, a terminal what it has room for.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=1000, no_color=True, highlight=False)
    columns = {header: [cell(row) for row in found] for header, cell in CELLS.items()}
    if indent:
        columns["name"] = [
            f"{'  ' * row.depth}{name}" for row, name in zip(found, columns["name"], strict=True)
        ]
    columns = {header: cells for header, cells in columns.items() if any(cells)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in columns:
        left = header in ("name", "state", "machine", "folder")
        table.add_column(
            header,
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=header not in ("name", "state", "folder"),
            min_width=len(header),
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(printable(cell, 300)) for cell in cells))
    console.print(table)


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _step(row: Row) -> str:
    of = "" if row.steps is None else f" of {row.steps}"
    return "" if row.step is None else f"{row.step}{of}"


def _lasts(seconds: float | None) -> str:
    """Two figures and a unit: 90 s, 12 min, 5.5 h, 3 d."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{1 if seconds < 10 * length else 0}f} {unit}"
    return f"{seconds:.0f} s"


def _state(row: Row) -> str:
    return f"{row.state} ({row.why[:80]})" if row.why else row.state


def _bd_rate(row: Row) -> str:
    return ", ".join(f"{value:+.1f} {anchor}" for anchor, value in row.bd_rate.items())


def _folder(row: Row) -> str:
    here = Path.cwd()
    return str(row.path.relative_to(here) if here in row.path.parents else row.path)


CELLS: dict[str, Any] = {
    "name": lambda row: row.name,
    "state": _state,
    "step": _step,
    "s/step": lambda row: "" if row.s_per_step is None else f"{row.s_per_step:.3g}",
    "ends in": lambda row: _lasts(row.end_in_s),
    "λ": lambda row: "" if row.lmbda is None else f"{row.lmbda:g}",
    "bpp": lambda row: _fixed(row.bpp, 3),
    "PSNR dB": lambda row: _fixed(row.psnr, 2),
    "BD-rate %": _bd_rate,
    "machine": lambda row: row.machine,
    "age": lambda row: _lasts(row.age_s),
    "folder": _folder,
}
