"""Code a folder of images with JPEG, WebP, JPEG 2000, AVIF, JPEG XL and HEVC, to compare with."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--codecs", nargs="+", metavar="CODEC", help="of them only these; default: all"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="of videos, in clips of N frames")
    parser.add_argument(
        "--gop", type=int, default=12, metavar="N", help="of videos: frames in a group (default 12)"
    )
    parser.add_argument(
        "--longest-side", type=int, metavar="PIXELS", help="shrink larger images, as a run may do"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="at a time; default: all cores; 1 to compare timings"
    )
    parser.add_argument("--no-cache", action="store_true", help="measure again what was kept")
    force_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, write ``rd_points.csv``, ``rd_summary.json``, ``anchors.json`` and the figure."""
    import sys

    from rich.console import Console
    from rich.markup import escape

    from lic_train.anchors.choose import choose
    from lic_train.anchors.image import ANCHORS
    from lic_train.anchors.ladder import anchor_rows, cache_folder, write_record
    from lic_train.anchors.video import VIDEO_ANCHORS
    from lic_train.data.datamodule import Signals
    from lic_train.data.sets.clips import clips
    from lic_train.data.sources import ImageFolder, ImageSource
    from lic_train.errors import DataError
    from lic_train.figures.curves import rd_curve_figure
    from lic_train.figures.terminal import anchors_table, print_table
    from lic_train.rd.points import write_csv, write_summary
    from lic_train.utils.outputs import claimed_output

    every = list(ANCHORS if options.frames is None else VIDEO_ANCHORS)
    chosen = [anchor.of_group(options.gop) for anchor in choose(options.codecs or every)]
    if options.jobs is not None and options.jobs < 1:
        raise DataError(f"--jobs is {options.jobs}; give 1 or more")
    if options.gop < 1:
        raise DataError(f"--gop is {options.gop}; give 1 or more")
    side = options.longest_side
    if options.frames is None:
        source: ImageSource = ImageFolder(options.folder, longest_side=side)
    else:
        source = clips(None, "eval", options.folder, frames=options.frames, longest_side=side)
    signals = Signals(source)
    dataset = options.folder.resolve().name
    written = ("rd_points.csv", "rd_summary.json", "anchors.json", "figures")
    with claimed_output(options.out, written, options.force):
        with Console(stderr=True).status(f"coding {len(signals)} images of {escape(dataset)}"):
            points, missing = anchor_rows(
                chosen,
                signals,
                dataset,
                jobs=options.jobs,
                cache=None if options.no_cache else cache_folder(),
            )
        for why in (*signals.remarks(), *missing.values()):
            print(f"lic: {why}", file=sys.stderr)
        if not points:
            raise DataError("none of these codecs can code these images here")
        write_csv(points, options.out / "rd_points.csv")
        write_summary(points, options.out / "rd_summary.json")
        write_record(chosen, missing, options.out / "anchors.json")
        rd_curve_figure(points, options.out / "figures" / "rd_curve.png")
    about = [anchor.describe() for anchor in chosen if anchor.name not in missing]
    print_table(anchors_table(points, about))
    print(options.out.resolve())
