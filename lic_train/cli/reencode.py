"""Code the decoded images again and again, beside JPEG."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument, model_arguments


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=50, metavar="N")
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument("--rate", type=float, default=-1, help="of every round; else the finest")
    rates.add_argument("--mixed", action="store_true", help="another rate in every round")
    parser.add_argument("--float", action="store_true", help="only: keep floats between rounds")
    parser.add_argument("--eight-bit", action="store_true", help="only: keep 8-bit images")
    force_argument(parser)
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Run the generations and report them."""
    from lic_train.codec.export import load_codec, read_about
    from lic_train.data.datamodule import Signals
    from lic_train.data.sources import ImageFolder
    from lic_train.evaluation.generations import STORAGES, report
    from lic_train.utils.outputs import claimed_output

    signals = list(Signals(ImageFolder(options.data)))
    chosen = (options.float, options.eight_bit)
    picked = [s for s, keep in zip(STORAGES, chosen, strict=True) if keep]
    with claimed_output(options.out, ("generations.csv", "figures"), options.force):
        report(
            load_codec(options.model, options.device, options.set, options.trust),
            signals,
            options.out,
            name=str(read_about(options.model).get("name", "codec")),
            dataset=options.data.resolve().name,
            rounds=options.rounds,
            rate=None if options.mixed else options.rate,
            storages=picked or STORAGES,
            device=options.device,
        )
