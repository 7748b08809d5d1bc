"""From directories to a report: the HTML file, and beside it the CSV files and figures it is of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

from lic_train.errors import DataError
from lic_train.evaluation.rate_gap import RateGap
from lic_train.figures.curves import rd_curve_figure
from lic_train.rd.points import write_csv
from lic_train.report.crops import crops
from lic_train.report.gaps import gaps_of
from lic_train.report.html import page
from lic_train.report.html_tables import differences_table, table
from lic_train.report.runs import Run, find_runs
from lic_train.report.section import Section, sections
from lic_train.report.series import ALONG, Series, collect, settings
from lic_train.report.training import training_curves
from lic_train.utils.environment import environment
from lic_train.utils.files import file_label, write_whole

TITLED = 4
"""Codecs that a title names."""


@dataclass(frozen=True)
class BDRow:
    """One cell of a BD-rate matrix. The fields, in this order, are the columns of the CSV."""

    dataset: str
    codec: str
    anchor: str
    images: int
    bd_rate: float | None
    """Percent, mean curves, PSNR, PCHIP; negative saves."""
    akima: float | None
    cubic: float | None
    mean_over_images: float | None
    low: float | None
    """95 % bootstrap interval of ``mean_over_images``."""
    high: float | None
    bd_psnr: float | None
    """dB at equal rate."""
    overlap: float
    refusal: str


class Written(NamedTuple):
    """What there is now."""

    folder: Path
    runs: int
    codecs: int
    size: int
    """Bytes of the HTML file."""
    notes: list[str]


def write_report(
    directories: Sequence[Path], out: Path, title: str = "", missing: Sequence[str] = ()
) -> Written:
    """Write ``out`` and ``<stem>_files/``: ``rd_points.csv``, ``bd_rate.csv``, figures.

    Without a ``title`` it is what is compared. Nothing is written unless everything could be.
    ``missing`` are lines about what is not in the
    directories but should be.

    Raises:
        LicError: nothing to compare, or something cannot be read or written.
    """
    runs = find_runs(directories)
    series, notes = collect(runs)
    made, more = sections(series)
    notes = [*missing, *notes, *more]
    folder = files_of(out)
    about = [
        ("Training", "What was logged while the runs trained, of random crops: means of "
         "neighbouring batches, the vertical axis logarithmic.", training_curves(runs)),
        ("Settings that differ", "Between the runs; those that change together share a row.",
         _differences(runs)),
        ("Anchors", "Who made them, and with which settings.", _anchors(runs)),
        ("Environment", "Where the runs and this report were made.", _environment(runs)),
    ]  # fmt: skip
    pictures = {section.dataset: crops(section) for section in made}
    title = title or _title(series)
    text = page(title, made, pictures, about, notes, folder.name).encode()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}") as scratch:
            _write_files(made, Path(scratch))
            folder.mkdir(exist_ok=True)
            for path in Path(scratch).iterdir():
                shutil.move(path, folder / path.name)
        write_whole(out, text)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from None
    all_notes = [*notes, *(f"{s.dataset}: {note}" for s in made for note in s.notes)]
    codecs = sum(not s.conventional for s in series)
    return Written(folder, len(runs), codecs, len(text), all_notes)


def _title(series: Sequence[Series]) -> str:
    """The codecs that are compared, and with what."""
    own = [s.label for s in series if not s.conventional]
    beside = [s.label.upper() for s in series if s.conventional]
    said = ", ".join(own[:TITLED]) + (f" and {len(own) - TITLED} more" if own[TITLED:] else "")
    return f"{said} beside {', '.join(beside)}" if said and beside else said or ", ".join(beside)


def files_of(out: Path) -> Path:
    """The folder beside a report that holds its tables and figures."""
    return out.with_name(f"{out.stem}_files")


def _write_files(made: Sequence[Section], folder: Path) -> None:
    write_csv([p for section in made for p in section.points], folder / "rd_points.csv")
    write_csv([row for section in made for row in bd_rows(section)], folder / "bd_rate.csv", BDRow)
    if gaps := [gap for section in made for gap in gaps_of(section)]:
        write_csv(gaps, folder / "rate_gap.csv", RateGap)
    for section in made:
        anchors = [s.label for s in section.anchors]
        for kind in ("png", "svg"):
            path = folder / f"rd_curve_{file_label(section.dataset)}.{kind}"
            rd_curve_figure(section.points, path, anchors)


def bd_rows(section: Section) -> list[BDRow]:
    """The matrix as a list."""
    rows = []
    for (codec, anchor), c in section.comparisons.items():
        low, high = c.interval or (None, None)
        rows.append(
            BDRow(
                dataset=section.dataset,
                codec=codec,
                anchor=anchor,
                images=c.images,
                bd_rate=c.bd_rate,
                akima=c.by_method.get("akima"),
                cubic=c.by_method.get("cubic"),
                mean_over_images=c.mean,
                low=low,
                high=high,
                bd_psnr=c.bd_psnr,
                overlap=c.overlap,
                refusal=c.refusal,
            )
        )
    return rows


def _differences(runs: Sequence[Run]) -> str:
    trained = [run for run in runs if run.config]
    configs = [
        {k: run.config[k] for k in ("name", *ALONG) if k in run.config} | settings(run.config)
        for run in trained
    ]
    return differences_table([run.label for run in trained], configs) if len(trained) > 1 else ""


def _anchors(runs: Sequence[Run]) -> str:
    seen: dict[tuple[str, ...], None] = {}
    for run in runs:
        for anchor in run.about["anchors"]:
            keys = ("codec", "library", "through", "settings", "qualities")
            seen.setdefault(tuple(str(anchor.get(key, "")) for key in keys))
    rows = [[escape(cell) for cell in row] for row in seen]
    header = ["anchor", "library", "through", "settings", "qualities"]
    return table(header, rows, text=range(1, 5))


def _environment(runs: Sequence[Run]) -> str:
    """A column per machine that is not the same; runs of one share it."""
    machines: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        if known := run.about["environment"]:
            machine = tuple((str(key), str(value)) for key, value in known.items())
            machines.setdefault(machine, []).append(run.label)
    machines.setdefault(tuple(environment().items()), []).append("this report")
    columns = [dict(rows) for rows in machines]
    names = [
        names[0] if len(names) < 2 else f"{len(names)} of them, {names[0]} ..."
        for names in machines.values()
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = [[escape(k), *(escape(c.get(k, "–")) for c in columns)] for k in keys]
    return table(["", *names], rows, text=range(1, 1 + len(columns)))
