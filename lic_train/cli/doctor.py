"""Look at a run before it starts: one screen, each fault with its fix."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="those of python -m lic_train, e.g. data.batch_size=4",
    )


def run(options: argparse.Namespace) -> None:
    """Print the page; exit code 1 with faults."""
    from rich.console import Console
    from rich.markup import escape

    from lic_train.doctor.examine import examine

    # What these say is of the libraries, not of the run.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    console = Console(stderr=True)
    with console.status("looking"):
        findings = examine(options.overrides)
    page = Console(highlight=False, soft_wrap=True)
    width = max(len(f.what) for f in findings)
    for f in findings:
        mark = "[red]x[/red]" if f.fault else "[green]v[/green]"
        page.print(f"{mark} {f.what:<{width}}  {escape(f.said)}")
        if f.fault:
            page.print(f"  {'':<{width}}  [bold]-> {escape(f.fix)}[/bold]")
    faults = sum(f.fault for f in findings)
    page.print(f"{faults or 'no'} fault{'s' * (faults != 1)}")
    if faults:
        sys.exit(1)
