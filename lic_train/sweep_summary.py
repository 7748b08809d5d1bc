"""The summary of a sweep: the rows of all its points in one table, one CSV and one RD figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lic_train.evaluation import RDPoint, read_csv, write_csv, write_summary
from lic_train.report.figures import rd_curve_figure
from lic_train.report.table import print_table, results_table
from lic_train.sweep_state import POINT, read


def summarize(sweep: Path, points: Sequence[Path]) -> None:
    """Write ``rd_points.csv``, ``rd_summary.json`` and ``figures/`` into the sweep's directory,
    and print a table per codec.

    Raises:
        LicError: rows that do not go together, e.g. of different images under one name.
    """
    rows = gather(points)
    write_csv(rows, sweep / "rd_points.csv")
    write_summary(rows, sweep / "rd_summary.json")
    datasets = sorted({row.dataset for row in rows})
    for dataset in datasets:
        these = [row for row in rows if row.dataset == dataset]
        of_which = f"_{dataset}" if len(datasets) > 1 else ""
        rd_curve_figure(these, sweep / "figures" / f"rd_curve{of_which}.png")
        for codec in dict.fromkeys(row.codec for row in these if row.lmbda is not None):
            print_table(results_table(these, codec))


def gather(points: Sequence[Path]) -> list[RDPoint]:
    """The rows of all points, anchors once; codecs that differ in more than lambda are told apart
    by what was swept."""
    rows: dict[tuple[object, ...], RDPoint] = {}
    labels: dict[Path, str] = {}
    for point in points:
        swept = str(read(point / POINT).get("label", point.name)).split(",")
        labels[point] = ",".join(value for value in swept if not value.startswith("lmbda="))
    several = len(set(labels.values())) > 1
    for point in points:
        for row in read_csv(point / "rd_points.csv"):
            if row.lmbda is not None and several:
                row = replace(row, codec=f"{row.codec} {labels[point]}".strip())
            rows.setdefault((row.dataset, row.image, row.codec, row.rate, row.lmbda), row)
    return list(rows.values())
