"""The table a command ends with: the codec and, below each point, JPEG at the nearest rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from lic_train.errors import LicError
from lic_train.rd.bd import bd_rate
from lic_train.rd.curves import Curve, RateSaved, mean_curve, nearest, rates_saved
from lic_train.rd.points import RDPoint
from lic_train.runs.names import title

PLAIN_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""
LINES = 4
"""Operating points that get a line each below the table; of more, BD-rate and the ends say all."""


def results_table(
    points: Sequence[RDPoint], codec: str, anchor: str | Sequence[str] = "jpeg"
) -> Table:
    """Every operating point of ``codec`` by increasing rate, each with each anchor's nearest.

    Rates are measured from files; the caption says what is saved at equal PSNR, point by point or,
    of many points, at the ends, and as BD-rate where ``bd.bd_rate`` gives one.

    Args:
        points: rows of one dataset.
        codec: whose operating points to show.
        anchor: one or several; left out if it has no rows.

    Raises:
        LicError: as ``rd.mean_curve``.
    """
    curve = mean_curve(points, codec)
    known = {p.codec for p in points}
    names = [a for a in ([anchor] if isinstance(anchor, str) else anchor) if a in known]
    anchors = [mean_curve(points, name) for name in names]
    saved = [rates_saved(points, codec, name) for name in names]
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    dataset = next(p.dataset for p in points if p.codec == codec)
    table.title = f"{dataset}, means over {curve.images} image{'s' * (curve.images != 1)}"
    table.add_column("codec", overflow="fold")
    for header in ("bpp (file)", "PSNR dB", "MS-SSIM", "encode s", "decode s"):
        table.add_column(header, justify="right", no_wrap=True, min_width=len(header))
    captions: list[str] = []
    for i in range(len(curve.bpp)):
        _row(table, _name(curve, i), curve, i, style="bold")
        for against, own in zip(anchors, saved, strict=True):
            if not own[i].same_size:
                captions.append(f"{_name(curve, i)}: of another size than {against.codec.upper()}")
                continue
            quality = nearest(points, float(curve.bpp[i]), against.codec)
            name = f"{against.codec.upper()} quality {quality}"
            _row(table, name, against, against.rate.index(quality), style="dim")
            captions.append(_caption(_name(curve, i), own[i], against, curve.images))
    if len(captions) > LINES:
        captions = [captions[0], captions[-1]]
    if len(curve.bpp) >= 4:
        captions += [_bd_rate(against, curve) for against in anchors]
    table.caption = "\n".join(captions) or None
    return table


def anchors_table(points: Sequence[RDPoint], about: Sequence[dict[str, str]]) -> Table:
    """A line for every anchor: what it covers, its BD-rate against the first, and who did the work.

    Args:
        points: rows of one dataset.
        about: of each anchor that has rows, its ``codec``, ``title`` and ``library``.
    """
    curves = [mean_curve(points, entry["codec"]) for entry in about]
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.title = f"{points[0].dataset}, means over {curves[0].images} images"
    table.add_column("codec", overflow="fold")
    for header in ("bpp", "PSNR dB", f"BD-rate % / {about[0]['title']}"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("library")
    refused: list[str] = []
    for entry, curve in zip(about, curves, strict=True):
        figure = "-"
        if curve is not curves[0]:
            try:
                figure = f"{bd_rate(curves[0], curve):+.1f}"
            except LicError as error:
                refused.append(f"no BD-rate: {error}")
        finite = curve.psnr[np.isfinite(curve.psnr)]
        table.add_row(
            entry["title"],
            f"{curve.bpp.min():.3f} - {curve.bpp.max():.3f}",
            f"{finite.min():.2f} - {finite.max():.2f}" if finite.size else "inf",
            figure,
            entry["library"],
        )
    table.caption = "\n".join(refused) or None
    return table


def print_table(table: Table, file: IO[str] | None = None) -> None:
    """Print to a terminal as wide as it is; anywhere else as plain text, ``PLAIN_WIDTH`` wide."""
    # Names come from files and folders: what they hold is no markup.
    console = Console(file=file, markup=False)
    if not console.is_terminal:
        console = Console(
            file=file, width=PLAIN_WIDTH, no_color=True, highlight=False, markup=False
        )
    console.print(table)


def _row(table: Table, name: str, curve: Curve, i: int, style: str) -> None:
    table.add_row(
        name,
        _number(curve.bpp[i], 3),
        _number(curve.psnr[i], 2),
        _number(curve.ms_ssim[i], 4),
        _number(curve.encode_s[i], 3),
        _number(curve.decode_s[i], 3),
        style=style,
    )


def _name(curve: Curve, i: int) -> str:
    name = title(curve.codec, curve.lmbda[i])
    return name + (f" rate {curve.rate[i]}" if len(set(curve.rate)) > 1 else "")


def _caption(name: str, saved: RateSaved, anchor: Curve, images: int) -> str:
    """At equal PSNR, both ways of averaging, each by its name."""
    if math.isnan(saved.on_mean_curve):
        finite = anchor.psnr[np.isfinite(anchor.psnr)]
        line = f"{name}: outside {anchor.codec.upper()}'s mean PSNR"
        if finite.size:
            line += f", {finite.min():.2f} to {finite.max():.2f} dB"
        if lossless := anchor.psnr.size - finite.size:
            line += f" ({lossless} of its {anchor.psnr.size} points are lossless: infinite PSNR)"
    else:
        line = (
            f"{name}: {_percent(saved.on_mean_curve)} than {anchor.codec.upper()} at equal PSNR "
            "on the mean curve"
        )
    if saved.images:
        line += f"; {_percent(saved.mean_over_images)} per image, mean of {saved.images}/{images}"
    return line


def _bd_rate(anchor: Curve, curve: Curve) -> str:
    """The number, or why there is none."""
    try:
        value = bd_rate(anchor, curve)
    except LicError as error:
        return f"no BD-rate: {error}"
    return (
        f"{curve.codec}: BD-rate {value:+.1f} % against {anchor.codec.upper()}, mean curves, PSNR"
    )


def _percent(saved: float) -> str:
    return f"{abs(saved):.1f} % {'fewer' if saved >= 0 else 'more'} bits"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
