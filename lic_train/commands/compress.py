"""Image to file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lic_train.commands._shared import model_arguments, write_whole


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("image", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--rate", type=float, default=-1, help="index, real where the codec has such; else finest"
    )
    size.add_argument("--target-bpp", type=float, metavar="X", help="the finest file of at most X")
    size.add_argument("--target-psnr", type=float, metavar="X", help="the coarsest of X dB or more")
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Code one image."""
    import torch

    from lic_train.data.images import read_image
    from lic_train.export import load_codec
    from lic_train.rate_control import meet

    picture = read_image(options.image)
    if picture.note:
        print(f"{options.image}: {picture.note}", file=sys.stderr)
    codec = load_codec(options.model, options.device, options.set)
    x = picture.pixels[None].to(torch.device(options.device)).float() / 255
    reached = ""
    if options.target_bpp is None and options.target_psnr is None:
        stream = codec.compress(x, options.rate)
    else:
        met = meet(codec, x, target_bpp=options.target_bpp, target_psnr=options.target_psnr)
        stream, reached = met.stream, f", rate {met.rate:.4g}, {met.psnr:.2f} dB"
    data = stream.to_bytes()
    write_whole(options.file, data)
    height, width = codec.reference(x, stream.rate).shape[-2:]
    bpp = 8 * len(data) / (height * width)
    print(f"{options.file}: {len(data)} bytes, {bpp:.4f} bpp, {width}x{height}{reached}")
