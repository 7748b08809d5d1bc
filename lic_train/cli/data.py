"""Prepare a set of images for training, or check one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from lic_train.errors import DataError

NAMED = 5  # of the images that are dropped, on the screen


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the two take."""
    actions = parser.add_subparsers(required=True, metavar="prepare|check")
    about = "From a folder of images to shards of raw pixels and a manifest; may be resumed."
    prepare = actions.add_parser("prepare", help=about, description=about)
    prepare.add_argument("source", type=Path, help="folder of images, searched recursively")
    prepare.add_argument("dest", type=Path, help="new folder, or that of a run that was stopped")
    prepare.add_argument("--min-side", type=int, default=256, metavar="PIXELS", help="drop smaller")
    prepare.add_argument(
        "--downsample", type=float, default=1.0, metavar="F", help="divide both sides by F"
    )
    prepare.add_argument("--keep-grey", action="store_true", help="also images without colour")
    prepare.add_argument("--keep-duplicates", action="store_true", help="also equal images")
    prepare.add_argument("--licence", default="not stated", help="what the manifest says of it")
    prepare.add_argument(
        "--shard-images", type=int, default=64, metavar="N", help="files a shard is made of"
    )
    prepare.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes"
    )
    prepare.set_defaults(action=run_prepare)
    about = "Look for corrupt images, altered shards, and evaluation images in the training set."
    check = actions.add_parser("check", help=about, description=about)
    check.add_argument(
        "config",
        nargs="+",
        metavar="CONFIG",
        help="as in training: data=prepared data.root=/set eval_data=kodak data.eval_root=/kodak",
    )
    check.set_defaults(action=run_check)


def run(options: argparse.Namespace) -> None:
    """Do either."""
    options.action(options)


def run_prepare(options: argparse.Namespace) -> None:
    """Prepare, and say what was kept and what was not."""
    from tqdm import tqdm

    from lic_train.data.prepare import REASONS, Settings, prepare
    from lic_train.data.sets.prepared import MANIFEST

    settings = Settings(
        min_side=options.min_side,
        downsample=options.downsample,
        keep_grey=options.keep_grey,
        keep_duplicates=options.keep_duplicates,
        shard_images=options.shard_images,
        licence=options.licence,
    )
    with tqdm(unit="image", desc="preparing", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, count: int) -> None:
            bar.total, bar.n = count, done
            bar.refresh()

        manifest = prepare(options.source, options.dest, settings, options.workers, progress)
    counts, dropped = manifest["counts"], manifest["dropped"]
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 1e9
    why = ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts[reason])
    said = f"{counts['kept']} of {counts['seen']} images kept, {size:.2f} GB"
    print(f"{said}; dropped: {why or 'none'}")
    for drop in dropped[:NAMED]:
        print(f"  {drop['reason']}: {drop['name']} ({drop['detail']})")
    if len(dropped) > NAMED:
        print(f"  ... all {len(dropped)} are in {options.dest / MANIFEST}")
    print(f"train on it: data=prepared data.root={options.dest}")


def run_check(options: argparse.Namespace) -> None:
    """Check all images; faults end in a DataError with their number."""
    from lic_train.data.fingerprint import leaks
    from lic_train.data.sources import ImageStream
    from lic_train.experiment.build import build_data

    data = build_data(options.config)
    print(data.describe())
    train, held_out = data.train_source, data.eval_source
    if isinstance(train, ImageStream):
        raise DataError("a stream cannot be checked: store the set, or check a folder of it")
    faults = 0
    for source in (train, held_out):
        for remark in source.remarks():
            print(f"note: {remark}")
        if verify := getattr(source, "verify", None):
            verify()
            print("shards: every byte is what the manifest says")
    hashes, unreadable = _hashes(train, "training images")
    faults += len(unreadable)
    readable, unreadable = _readable(held_out, "evaluation images")
    faults += len(unreadable)
    found = leaks(train, hashes, held_out, readable)
    for leak in found:
        likeness = f"correlation {leak.correlation:.3f}"
        print(f"leak: evaluation image {leak.held_out} is training image {leak.train}, {likeness}")
    if not found:
        print(f"leakage: none of {len(held_out)} evaluation images found among {len(train)}")
    leaked = len({leak.held_out for leak in found})
    if faults + leaked:
        raise DataError(f"{faults} unreadable images, {leaked} evaluation images leaked")


def _hashes(source: Any, what: str) -> tuple[list[int], list[str]]:
    """A hash of every image, 0 for those that cannot be read, which are named."""
    from lic_train.data.fingerprint import hash_of

    hashes, unreadable = [], []
    for index in _bar(len(source), what):
        try:
            hashes.append(hash_of(source, index))
        except DataError as error:
            print(f"unreadable: {error}")
            unreadable.append(str(error))
            hashes.append(0)
    return hashes, unreadable


def _readable(source: Any, what: str) -> tuple[list[int], list[str]]:
    readable, unreadable = [], []
    for index in _bar(len(source), what):
        try:
            source.pixels(index)
            readable.append(index)
        except DataError as error:
            print(f"unreadable: {error}")
            unreadable.append(str(error))
    return readable, unreadable


def _bar(count: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(range(count), desc=what, unit="image", disable=not sys.stderr.isatty())
