"""File to PNG image or, of a video, to a folder of them or a y4m file."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from lic_train.cli._shared import force_argument, model_arguments, pace, stream_of
from lic_train.errors import DataError

HINTS = {
    4: "must end in .png: decoded images are written losslessly",
    5: "must be a folder, which gets PNG files, or end in .y4m: what is decoded is a video",
}
"""By the number of dimensions of a codec's signals."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path, metavar="IMAGE or FOLDER or VIDEO")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN")
    force_argument(parser)
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Decode one signal."""
    from lic_train.codec.export import load_codec
    from lic_train.codec.signal import to_uint8
    from lic_train.data.io.video_writers import write_frames, write_y4m
    from lic_train.utils.device import clock
    from lic_train.utils.files import OUR_PNG, write_png
    from lic_train.utils.outputs import check_overwrite

    codec = load_codec(options.model, options.device, options.set, options.trust)
    of_image: dict[str, Any] = {".png": partial(write_png, make_folder=False)}
    of_clip: dict[str, Any] = {"": write_frames, ".y4m": write_y4m}
    writers = {4: of_image, 5: of_clip}[codec.signal_dims]
    if (suffix := options.out.suffix.lower()) not in writers:
        raise DataError(f"{options.out} {HINTS[codec.signal_dims]}")
    check_overwrite(
        options.out, [options.file], OUR_PNG if suffix == ".png" else b"", options.force
    )
    with stream_of(options.file, codec) as stream:
        start = clock(options.device)
        pixels = to_uint8(codec.decompress(stream)[0]).cpu()
        seconds = clock(options.device) - start
    writers[suffix](options.out, pixels)
    print(f"{options.out}: {pixels.shape[-1]}x{pixels.shape[-2]}{pace(pixels, seconds)}")
