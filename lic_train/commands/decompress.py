"""File to PNG image."""

from __future__ import annotations

import argparse
from pathlib import Path

from lic_train.commands._shared import model_arguments, stream_of
from lic_train.errors import DataError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Decode one image."""
    from lic_train.data.images import write_png
    from lic_train.export import load_codec
    from lic_train.metrics import to_uint8

    if options.image.suffix.lower() != ".png":
        raise DataError(f"{options.image} must end in .png: decoded images are written losslessly")
    with stream_of(options.file) as stream:
        codec = load_codec(options.model, options.device, options.set)
        pixels = to_uint8(codec.decompress(stream)[0]).cpu()
    write_png(options.image, pixels)
    print(f"{options.image}: {pixels.shape[-1]}x{pixels.shape[-2]}")
