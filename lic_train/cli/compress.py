"""Image or video to file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.cli._shared import force_argument, model_arguments, pace, write_whole
from lic_train.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("signal", type=Path, metavar="IMAGE or VIDEO")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--rate", type=float, default=-1, help="index, real where the codec has such; else finest"
    )
    size.add_argument("--target-bpp", type=float, metavar="X", help="the finest file of at most X")
    size.add_argument("--target-psnr", type=float, metavar="X", help="the coarsest of X dB or more")
    parser.add_argument("--frames", type=int, metavar="N", help="of a video: only the first N")
    parser.add_argument("--size", metavar="WxH", help="of raw video whose name does not say it")
    parser.add_argument(
        "--pixel-format", metavar="F", help="of raw video, e.g. yuv422p10le; else by its name"
    )
    force_argument(parser)
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Code one signal."""
    import torch

    from lic_train.codec.bitstream import MAGIC
    from lic_train.codec.export import load_codec
    from lic_train.codec.signal import num_images
    from lic_train.evaluation.rate_control import meet
    from lic_train.rd.metrics import bpp
    from lic_train.utils.device import clock
    from lic_train.utils.outputs import check_overwrite

    check_overwrite(options.file, [options.signal], MAGIC, options.force)
    pixels = _read(options)
    codec = load_codec(options.model, options.device, options.set, options.trust)
    x = pixels[None].to(torch.device(options.device)).float() / 255
    codec.accept(x)
    start, reached = clock(options.device), ""
    if options.target_bpp is None and options.target_psnr is None:
        stream = codec.compress(x, options.rate)
    else:
        met = meet(codec, x, target_bpp=options.target_bpp, target_psnr=options.target_psnr)
        stream, reached = met.stream, f", rate {met.rate:.4g}, {met.psnr:.2f} dB"
    data = stream.to_bytes()
    seconds = clock(options.device) - start
    write_whole(options.file, data)
    height, width = codec.reference(x, stream.rate).shape[-2:]
    images = num_images(pixels)
    rate = f"{bpp(len(data), width, height, images):.4f} bpp, {width}x{height}"
    print(f"{options.file}: {len(data)} bytes, {rate}{reached}{pace(pixels, seconds)}")


def _read(options: argparse.Namespace) -> Tensor:
    """Pixels of an image or, by the suffix of the file, of a video: uint8 ``(..., 3, H, W)``."""
    from lic_train.data.io.images import read_image
    from lic_train.data.io.video_file import VIDEO_EXTENSIONS, VideoFile

    path, frames = options.signal, options.frames
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        video = VideoFile(path, _size(options.size), options.pixel_format)
        count = len(video) if frames is None else frames
        if not 1 <= count <= len(video):
            raise DataError(f"--frames {count}: {path} has {len(video)} frames")
        return video.read(0, count)
    for option in ("frames", "size", "pixel_format"):
        if getattr(options, option) is not None:
            raise DataError(f"--{option.replace('_', '-')} is for videos: {path} is none")
    picture = read_image(path)
    if picture.note:
        print(f"{path}: {picture.note}", file=sys.stderr)
    return picture.pixels


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise DataError(f"--size is {text!r}; give it like 352x288")
    return int(width), int(height)
