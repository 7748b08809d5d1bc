"""Compare runs and sweeps in one HTML file, with BD-rates, curves and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    parser.add_argument("--title", default="", help="default: what is compared")
    force_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Write the report and the folder of its CSV files and figures; say what was left out."""
    import sys

    from lic_train.errors import DataError
    from lic_train.report.html import GENERATOR
    from lic_train.report.write import files_of, write_report
    from lic_train.utils.outputs import check_overwrite, is_output

    if options.out.suffix.lower() != ".html":
        raise DataError(f"{options.out} must end in .html")
    check_overwrite(options.out, [], GENERATOR.encode(), options.force)
    folder = files_of(options.out)
    if folder.exists() and not is_output(folder) and not options.force:
        raise DataError(f"{folder} is not of a report: give another name, or --force")
    made = write_report(options.directories, options.out, options.title)
    for note in made.notes:
        print(f"lic: {note}", file=sys.stderr)
    print(f"{options.out}: {made.runs} runs, {made.codecs} codecs, {made.size / 1e6:.1f} MB")
    print(made.folder)
