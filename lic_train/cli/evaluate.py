"""Code a folder of images or of videos to files, beside anchors; write the RD tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument, model_arguments


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, metavar="N", help="of videos, in clips of N frames")
    parser.add_argument("--save-images", type=int, default=3, metavar="N")
    parser.add_argument(
        "--anchors",
        nargs="+",
        default=["jpeg"],
        metavar="CODEC",
        help="conventional codecs beside it (default: jpeg); see lic anchors",
    )
    parser.add_argument(
        "--perceptual",
        nargs="+",
        default=[],
        metavar="DISTANCE",
        help="lpips and dists, as more columns of rd_points.csv",
    )
    force_argument(parser)
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Code a folder and say what came out."""
    from lic_train.codec.export import read_about
    from lic_train.data.datamodule import Signals
    from lic_train.data.sets.clips import clips
    from lic_train.data.sources import ImageFolder, ImageSource
    from lic_train.evaluation.evaluate import WRITTEN, Evaluator, conclude
    from lic_train.evaluation.results import Labels
    from lic_train.runs.record import write_evaluation
    from lic_train.utils.outputs import claimed_output

    about = read_about(options.model)
    if options.frames is None:
        source: ImageSource = ImageFolder(options.data)
    else:
        source = clips(None, "eval", options.data, frames=options.frames)
    name = str(about.get("name", "codec"))
    labels = Labels(options.data.resolve().name, name, about.get("lmbda"))
    evaluator = Evaluator(options.anchors, options.perceptual, options.device, options.save_images)
    evaluator.trust = options.trust
    signals = Signals(source)
    with claimed_output(options.out, WRITTEN, options.force):
        evaluation = evaluator.evaluate(options.model, signals, labels, options.out, options.set)
        write_evaluation(options.out, options.model, options.set)
    conclude(evaluation.points, name, options.out.resolve())
