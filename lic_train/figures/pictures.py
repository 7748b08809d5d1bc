"""Images beside what they decode to and where the two differ, in rows of one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lic_train.figures.curves import INK, as_text, write_figure

COLUMN = 3.4
"""Inches."""


class Decoded(NamedTuple):
    """One image out of one file: ``(3, H, W)`` uint8, beside what it should be, and its title."""

    label: str
    pixels: ArrayLike
    reference: ArrayLike


def reconstructions_figure(
    rows: Sequence[tuple[str, ArrayLike, Sequence[Decoded]]], path: Path, title: str
) -> None:
    """Write a PNG: in each row the original, then every decoded image and its error map.

    An error is the mean over R, G and B of the absolute difference, in 8-bit levels; all maps of
    the figure share one scale, whose top only 1 % of pixels exceed.

    Args:
        rows: name, pixels ``(3, H, W)`` uint8, and what was decoded; as many in every row.
        path: of the PNG, written atomically.
        title: over the figure.
    """
    errors = [[_error(d) for d in decoded] for _, _, decoded in rows]
    top = max(1.0, *(float(np.percentile(e, 99)) for row in errors for e in row))
    columns = 1 + 2 * len(rows[0][2])
    heights = [COLUMN * np.shape(pixels)[1] / np.shape(pixels)[2] for _, pixels, _ in rows]
    size = (columns * COLUMN + 0.7, sum(heights) + 0.3 * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid: Any = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    shown: Any = None
    for axes, (name, pixels, decoded), maps in zip(grid, rows, errors, strict=True):
        axes[0].imshow(np.moveaxis(np.asarray(pixels), 0, -1), interpolation="antialiased")
        axes[0].set_title(as_text(name), fontsize=9, color=INK)
        for k, (one, error) in enumerate(zip(decoded, maps, strict=True)):
            picture, difference = axes[1 + 2 * k], axes[2 + 2 * k]
            picture.imshow(np.moveaxis(np.asarray(one.pixels), 0, -1), interpolation="antialiased")
            picture.set_title(as_text(one.label), fontsize=9, color=INK)
            shown = difference.imshow(error, cmap="magma", vmin=0, vmax=top)
            difference.set_title("error", fontsize=9, color=INK)
        for axis in axes:
            axis.set_axis_off()
    bar = figure.colorbar(shown, ax=list(grid[:, -1]), fraction=0.05, pad=0.02)
    bar.set_label("mean absolute error, 8-bit levels", fontsize=8)
    figure.suptitle(as_text(title), color=INK, fontsize=11, fontweight="bold")
    write_figure(figure, path)


def _error(decoded: Decoded) -> Any:
    a, b = (np.asarray(i, dtype=np.float32) for i in (decoded.pixels, decoded.reference))
    return np.abs(a - b).mean(axis=0)
