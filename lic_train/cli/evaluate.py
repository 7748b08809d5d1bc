"""Code a folder of images or of videos to files, beside anchors; write the RD tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic_train.cli._shared import force_argument, model_arguments

if TYPE_CHECKING:
    from lic_train.data.sources import ImageSource
    from lic_train.rd.points import RDPoint
    from lic_train.rd.published import PublishedCurve


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "model", type=Path, metavar="RUN", help="a run, or a sweep: all its points as one curve"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, metavar="N", help="of videos, in clips of N frames")
    parser.add_argument(
        "--longest-side", type=int, metavar="PIXELS", help="shrink larger images, as in training"
    )
    parser.add_argument("--save-images", type=int, default=3, metavar="N")
    parser.add_argument(
        "--anchors",
        nargs="+",
        default=["jpeg"],
        metavar="CODEC",
        help="conventional codecs beside it (default: jpeg); see lic anchors",
    )
    parser.add_argument(
        "--compare",
        metavar="published:NAME,...",
        help="published curves of the very same images, e.g. published:mbt2018-mean,vtm of Kodak",
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
    from lic_train.runs.listing import SWEEP

    is_sweep = (options.model / SWEEP).is_file()
    if not is_sweep:
        read_about(options.model)  # what is no run is refused before a folder of images is read
    source = _source(options)
    published = _published(options, source)
    points = _sweep(options, source) if is_sweep else _one(options, source)
    for line in _compared(points, options, published):
        print(line)
    print(options.out.resolve())


def _source(options: argparse.Namespace) -> ImageSource:
    from lic_train.data.sets.clips import clips
    from lic_train.data.sources import ImageFolder

    if options.frames is None:
        return ImageFolder(options.data, longest_side=options.longest_side)
    more = {"frames": options.frames, "longest_side": options.longest_side}
    return clips(None, "eval", options.data, **more)


def _published(options: argparse.Namespace, source: ImageSource) -> list[PublishedCurve]:
    """The curves that --compare asks for; refused before anything long begins."""
    if not options.compare:
        return []
    from lic_train.errors import DataError
    from lic_train.rd import literature
    from lic_train.rd.published import curves

    names = literature.chosen(options.compare)
    if options.frames is not None:
        raise DataError("--compare: of videos nothing published has the same frames and groups")
    sizes = {}
    for index in range(len(source)):
        *_, height, width = source.pixels(index).shape
        sizes[source.name(index)] = (width, height)
    return curves(literature.check_set(sizes), names)


def _one(options: argparse.Namespace, source: ImageSource) -> list[RDPoint]:
    from lic_train.evaluation.evaluate import WRITTEN
    from lic_train.figures.terminal import print_table, results_table
    from lic_train.utils.outputs import claimed_output

    with claimed_output(options.out, WRITTEN, options.force):
        name, points = _evaluated(options, options.model, source, options.out)
    print_table(results_table(points, name, _anchors(points)))
    return points


def _sweep(options: argparse.Namespace, source: ImageSource) -> list[RDPoint]:
    """Every finished point into a folder of its own, and all of them into one curve."""
    from lic_train.errors import DataError
    from lic_train.evaluation.evaluate import WRITTEN
    from lic_train.runs.listing import FINISHED, JOINT, rows
    from lic_train.sweep.summary import gather, write_joint
    from lic_train.utils.outputs import claimed_output

    done = [r.path for r in rows([options.model]) if r.kind == "run" and r.state == FINISHED]
    if not done:
        raise DataError(f"{options.model}: no point of this sweep has finished")
    with claimed_output(options.out, (*WRITTEN, JOINT), options.force):
        for point in done:
            with claimed_output(options.out / point.name, WRITTEN, options.force):
                print(f"{point.name}, {done.index(point) + 1} of {len(done)}", flush=True)
                _evaluated(options, point, source, options.out / point.name)
        points, own = gather(done, [options.out / point.name for point in done])
        write_joint(points, own, options.out, of=options.model)
    return points


def _evaluated(
    options: argparse.Namespace, model: Path, source: ImageSource, out: Path
) -> tuple[str, list[RDPoint]]:
    """Name and rows of one run's evaluation."""
    from lic_train.codec.export import read_about
    from lic_train.data.datamodule import Signals
    from lic_train.evaluation.evaluate import Evaluator
    from lic_train.evaluation.results import Labels
    from lic_train.runs.record import write_evaluation

    about: dict[str, Any] = read_about(model)
    name = str(about.get("name", "codec"))
    labels = Labels(options.data.resolve().name, name, about.get("lmbda"))
    evaluator = Evaluator(options.anchors, options.perceptual, options.device, options.save_images)
    evaluator.trust = options.trust
    evaluation = evaluator.evaluate(model, Signals(source), labels, out, options.set)
    write_evaluation(out, model, options.set)
    return name, evaluation.points


def _anchors(points: list[RDPoint]) -> list[str]:
    return list(dict.fromkeys(p.codec for p in points if p.bpp_estimated is None))


def _compared(
    points: list[RDPoint], options: argparse.Namespace, published: list[PublishedCurve]
) -> list[str]:
    """What is to be said of the published curves, which the figure then shows as well."""
    if not published:
        return []
    from lic_train.figures.curves import rd_curve_figure
    from lic_train.rd.literature import lines

    anchors = _anchors(points)
    figure = options.out / "figures" / "rd_curve.png"
    rd_curve_figure(points, figure, anchors, published=published)
    own = [c for c in dict.fromkeys(p.codec for p in points) if c not in anchors]
    return [line for codec in own for line in lines(points, codec, published)]
