"""File to the shorter file of a coarser rate."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.cli._shared import force_argument, stream_of, write_whole


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=int, required=True, help="index, from 0")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    force_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Shorten one file."""
    from lic_train.codec.bitstream import MAGIC
    from lic_train.codec.export import load_codec
    from lic_train.utils.outputs import check_overwrite

    check_overwrite(options.out, [options.file], MAGIC, options.force)
    with stream_of(options.file) as stream:
        shorter = load_codec(options.model).cut(stream, options.rate).to_bytes()
    write_whole(options.out, shorter)
    print(f"{options.out}: {len(shorter)} bytes, rate {options.rate} of 0 ... {stream.rate}")
