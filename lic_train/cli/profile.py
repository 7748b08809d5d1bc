"""Parameters, multiplications and seconds of a codec, part by part."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.cli._shared import model_arguments
from lic_train.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from lic_train.codec import Codec

FRAMES = 4
"""Of a clip."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN | KEY=VALUE",
        help="a run, or settings of python -m lic_train, e.g. model=NAME: fresh weights",
    )
    parser.add_argument("--size", default="768x512", metavar="WxH", help="of the image coded")
    model_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Print a row for each part and one for all of it."""
    from rich import box
    from rich.table import Table

    from lic_train.evaluation.profile import profile
    from lic_train.figures.terminal import print_table

    codec = _codec(options)
    x = _signal(options.size, codec.signal_dims).to(options.device)
    rows = profile(codec, x)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("part", overflow="fold")
    for header in ("parameters", "kMAC / pixel", "encode s", "decode s"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        numbers = (f"{row.macs / 1e3:.2f}", f"{row.encode_s:.3f}", f"{row.decode_s:.3f}")
        table.add_row(row.part, f"{row.parameters:,}", *numbers)
    table.add_section()
    table.add_row(
        "all",
        f"{sum(row.parameters for row in rows):,}",
        f"{sum(row.macs for row in rows) / 1e3:.2f}",
        f"{sum(row.encode_s for row in rows):.3f}",
        f"{sum(row.decode_s for row in rows):.3f}",
    )
    print_table(table)


def _codec(options: argparse.Namespace) -> Codec:
    """A run's, or one of fresh weights."""
    from lic_train.errors import ModelError
    from lic_train.utils.device import check_device

    check_device(options.device)
    if len(options.what) == 1 and "=" not in options.what[0]:
        from lic_train.codec.export import load_codec

        return load_codec(Path(options.what[0]), options.device, options.set, options.trust)
    if options.set or options.trust:
        raise ModelError("--set and --trust are of a run: settings are given as they are")
    from lic_train.experiment.build import fresh_codec

    return fresh_codec(options.what).to(options.device)


def _signal(size: str, dims: int) -> Tensor:
    """Smooth noise of a size: what a network costs hardly depends on the picture."""
    import torch
    from torch.nn.functional import interpolate

    from lic_train.utils.limits import max_pixels

    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise DataError(f"--size is {size!r}; give it like 768x512")
    if not 0 < int(width) * int(height) <= max_pixels():
        raise DataError(f"--size is {size}: give 1 to {max_pixels()} pixels")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 24, 32, generator=generator)
    image = interpolate(coarse, (int(height), int(width)), mode="bicubic").clamp(0, 1)
    return image if dims == 4 else image[:, None].repeat(1, FRAMES, 1, 1, 1)
