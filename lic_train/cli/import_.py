"""Make a run folder of a checkpoint that another program trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("checkpoint", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--arch", metavar="NAME", help="a network of CompressAI, by its name there")
    what.add_argument(
        "--class",
        dest="cls",
        metavar="PACKAGE.MODULE:CLASS",
        help="a network with CompressAI's methods: its code will run",
    )
    parser.add_argument(
        "--quality", type=int, metavar="Q", help="its widths; else those of the checkpoint"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the class; may be repeated",
    )
    parser.add_argument("--weights", metavar="KEY", help="which of several, e.g. an EMA's")
    parser.add_argument("--lmbda", type=float, help="that it was trained for, for tables")
    parser.add_argument("--name", help="what tables call it (default: that of the network)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    force_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Import, and say how to go on."""
    from lic_train.codec.export import CONFIG, WEIGHTS
    from lic_train.errors import ModelError
    from lic_train.experiment.importing import import_checkpoint
    from lic_train.utils.outputs import claimed_output

    if options.cls and options.quality is not None:
        raise ModelError("--quality is of --arch: give the class its arguments by --set")
    if options.arch and options.set:
        raise ModelError("--set is of --class: the checkpoint itself says how wide the network is")
    with claimed_output(options.out, (CONFIG, WEIGHTS), options.force):
        made = import_checkpoint(
            options.checkpoint,
            options.out,
            arch=options.arch,
            quality=options.quality,
            cls=options.cls,
            arguments=options.set,
            key=options.weights,
            lmbda=options.lmbda,
            name=options.name,
        )
    parameters = sum(p.numel() for p in made.codec.parameters()) / 1e6
    of = f", weights of {made.key!r}" if made.key else ""
    print(f"{options.out}: {options.arch or options.cls}, {parameters:.2f} M parameters{of}")
    if made.others:
        print(f"other weights, for --weights: {', '.join(made.others)}")
    trust = f" --trust {options.cls}" if options.cls else ""
    print(f"judge it: lic evaluate {options.out} --data FOLDER --out DIR{trust}")
