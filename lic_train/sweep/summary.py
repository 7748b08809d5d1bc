"""A sweep is summed up by the rows of all its points: tables, CSV, RD figure and HTML report."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from lic_train.figures.curves import rd_curve_figure
from lic_train.figures.terminal import print_table, results_table
from lic_train.rd.points import RDPoint, read_csv, write_csv, write_summary
from lic_train.report.write import write_report
from lic_train.runs.listing import JOINT
from lic_train.runs.names import curve
from lic_train.runs.record import read
from lic_train.sweep.state import POINT, about
from lic_train.utils.files import write_whole


def summarize(sweep: Path, points: Sequence[Path], missing: Sequence[str] = ()) -> Path:
    """Write tables, figures and report of a sweep into its directory, and print the tables.

    Writes ``rd_points.csv``, ``rd_summary.json``, ``figures/``, ``report.html`` and
    ``report_files/`` with the figures, BD-rates and rows of the report.

    Args:
        sweep: its directory.
        points: directories of the finished points.
        missing: one line for each other point, for the report.

    Returns:
        The path of ``report.html``.

    Raises:
        LicError: rows are missing or do not belong together, e.g. those of different images under
            one name.
    """
    write_joint(*gather(points), sweep)
    report = sweep / "report.html"
    write_report([sweep], report, f"Sweep {'/'.join(sweep.parts[-2:])}", missing)
    return report


def write_joint(
    rows: Sequence[RDPoint], own: Collection[str], folder: Path, of: Path | None = None
) -> None:
    """Write the tables and figures of many points into one folder, and print the tables.

    Args:
        rows: of all of them, as :func:`gather` gives them.
        own: names of the trained codecs.
        folder: where to.
        of: the sweep, where ``folder`` is that of an evaluation of it.
    """
    if of is not None:
        label = "/".join(of.resolve().parts[-2:])
        said = {"sweep": str(of.resolve()), "label": label, "codecs": sorted(own)}
        write_whole(folder / JOINT, (json.dumps(said, indent=1) + "\n").encode())
    write_csv(rows, folder / "rd_points.csv")
    write_summary(rows, folder / "rd_summary.json")
    datasets = sorted({row.dataset for row in rows})
    for dataset in datasets:
        these = [row for row in rows if row.dataset == dataset]
        of_which = f"_{dataset}" if len(datasets) > 1 else ""
        anchors = list(dict.fromkeys(row.codec for row in these if row.codec not in own))
        rd_curve_figure(these, folder / "figures" / f"rd_curve{of_which}.png", anchors)
        for codec in sorted({*own} & {row.codec for row in these}):
            print_table(results_table(these, codec, anchors))


def gather(
    points: Sequence[Path], folders: Sequence[Path] | None = None
) -> tuple[list[RDPoint], set[str]]:
    """Collect the rows of all points, those of anchors once.

    Codecs that differ in more than their lambda are distinguished by the values that were swept.

    Args:
        points: directories of the finished points.
        folders: where the rows of each are; ``None``: in its own directory.

    Returns:
        The rows, and the names of the codecs that were trained.

    Raises:
        DataError: a table of rows is missing or damaged.
        ValueError: the ``model.yaml`` of a point is damaged.
    """
    labels = [str(read(point / POINT).get("label", point.name)).split(",") for point in points]
    others = [[v for v in label if not v.startswith("lmbda=")] for label in labels]
    rows: dict[tuple[object, ...], RDPoint] = {}
    own: set[str] = set()
    for point, folder, label, other in zip(points, folders or points, labels, others, strict=True):
        name = about(point)["name"]
        for row in read_csv(folder / "rd_points.csv"):
            if row.codec == name:
                # Of a codec that does not heed lambda, every value has a curve of its own.
                more = label if row.lmbda is None else other
                if len({*map(tuple, others)}) > 1 or row.lmbda is None:
                    row = replace(row, codec=curve(name, more, most=None))
                own.add(row.codec)
            rows.setdefault((row.dataset, row.image, row.codec, row.rate, row.lmbda), row)
    return list(rows.values()), own
