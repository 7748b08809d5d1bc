"""The figures of an evaluation: where the codec lies among anchors, and what that looks like.

Figures are built without pyplot, so that nothing stays in a global list and any thread may draw.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from lic_train.rd.curves import Array, Curve, mean_curve
from lic_train.rd.points import RDPoint
from lic_train.rd.published import PublishedCurve
from lic_train.utils.files import write_whole
from lic_train.utils.plain import printable

IMAGE_ANCHORS = ("jpeg", "webp", "jpeg2000", "avif", "jpegxl", "hevc")
ANCHORS = (*IMAGE_ANCHORS, "x264", "x265", "x264_slow", "x265_slow")
INK, GREY, PUBLISHED = "#1f2933", "#8a94a0", "#b9a36b"
COLOURS = ("#c8102e", "#1565c0", "#2e7d32", "#8e24aa", "#ef6c00", "#00838f")
LABELS = 8
"""Operating points of a curve that are named; of more, every second, third, ..."""
STYLES = ("-", "--", "-.", ":")


def rd_curve_figure(
    points: Sequence[RDPoint],
    path: Path,
    anchors: Sequence[str] = ANCHORS,
    title: str | None = None,
    published: Sequence[PublishedCurve] = (),
) -> None:
    """Write a PNG: mean bits per pixel against mean PSNR and, where defined, MS-SSIM.

    Args:
        points: rows of one dataset; those of ``anchors`` are drawn as thin curves, all others as
            large markers, labelled with their lambda or rate.
        path: of the PNG, written atomically.
        anchors: names of the anchors, drawn if they have rows.
        title: over the figure; by default the dataset and the number of images.
        published: curves of the same images, drawn and labelled as such beside PSNR.

    Raises:
        LicError: as ``rd.mean_curve``.
    """
    names = list(dict.fromkeys(p.codec for p in points))
    curves = [mean_curve(points, n) for n in names]
    # Without a codec there is nothing to focus on: show the anchors whole.
    own = [c for c in curves if c.codec not in anchors] or curves
    window = _window(min(c.bpp.min() for c in own), max(c.bpp.max() for c in own))
    similar = any(np.isfinite(c.ms_ssim_mean_of_db).any() for c in own)
    figure, axes = _figure(2 if similar else 1)
    for published_curve, style in zip(published, itertools.cycle(STYLES)):
        x, y = published_curve.bpp, published_curve.psnr
        axes[0].plot(x, y, style, color=PUBLISHED, linewidth=1.4, label=published_curve.label)
    _panel(axes[0], curves, [c.psnr for c in curves], anchors, window)
    axes[0].set_ylabel("PSNR (dB), 8-bit RGB, mean over images")
    if similar:
        values = [c.ms_ssim_mean_of_db for c in curves]
        _panel(axes[1], curves, values, anchors, window)
        axes[1].set_ylabel("MS-SSIM (dB), 8-bit RGB, mean over images of dB")
    axes[0].legend(frameon=False, loc="lower right")
    images = curves[0].images
    default = f"{points[0].dataset}, {images} image{'s' if images != 1 else ''}"
    figure.suptitle(as_text(title or default), color=INK, fontsize=12, fontweight="bold")
    write_figure(figure, path)


def lines_figure(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    path: Path,
    *,
    xlabel: str,
    title: str,
    grey: Collection[str] = (),
    marks: Sequence[float] = (),
    xlim: tuple[float, float] | None = None,
) -> None:
    """Write a PNG of lines in panels side by side.

    Args:
        panels: label of the y axis -> name of the line -> x and y.
        path: of the PNG, written atomically.
        grey: names of the lines that are there to compare with.
        marks: x of vertical lines.
    """
    figure, axes = _figure(len(panels))
    for axis, (ylabel, lines) in zip(axes, panels.items(), strict=True):
        own = [name for name in lines if name not in grey]
        colours = dict(zip(own, COLOURS * (len(own) // len(COLOURS) + 1), strict=False))
        styles = dict(zip(grey, STYLES * (len(grey) // len(STYLES) + 1), strict=False))
        for name, (x, y) in lines.items():
            colour, style = colours.get(name, GREY), styles.get(name, "-")
            width = 1.2 if name in styles else 2
            axis.plot(x, y, style, color=colour, linewidth=width, marker=".", label=as_text(name))
        for x in marks:
            axis.axvline(x, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_xlim(xlim)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        plain(axis)
    axes[0].legend(frameon=False)
    figure.suptitle(as_text(title), color=INK, fontsize=12, fontweight="bold")
    write_figure(figure, path)


def comparison_figure(
    original: ArrayLike,
    decoded: ArrayLike,
    jpeg_decoded: ArrayLike,
    path: Path,
    labels: Sequence[str],
    crop: tuple[int, int, int] | None = None,
) -> None:
    """Write a PNG: the three images side by side, below each an enlarged crop.

    Args:
        original, decoded, jpeg_decoded: ``(3, H, W)``, ``uint8``, arrays or tensors.
        path: of the PNG, written atomically.
        labels: of the three, e.g. codec, measured bits per pixel, PSNR.
        crop: ``(top, left, side)`` in pixels; by default where the original has most detail.
    """
    images = [np.moveaxis(np.asarray(i), 0, -1) for i in (original, decoded, jpeg_decoded)]
    height, width = images[0].shape[:2]
    top, left, side = crop or most_detail(images[0])
    # Each column is `column` inches wide; the crop below is as wide as the image above it.
    column, wide = 4.2, min(side * 3 // 2, width - left)
    image_height, crop_height = column * height / width, column * side / wide
    figure = Figure(figsize=(3 * column, image_height + crop_height + 0.4), dpi=150)
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.35 / figure.get_figheight(), 0.02, 0.02)
    grid: Any = figure.subplots(2, 3, height_ratios=[image_height, crop_height])
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        grid[0, k].imshow(image, interpolation="antialiased")
        grid[0, k].set_title(as_text(label), fontsize=10, color=INK)
        # Nearest: the reader is to see the pixels, not a filter.
        grid[1, k].imshow(image[top : top + side, left : left + wide], interpolation="nearest")
        outline = Rectangle((left, top), wide, side, fill=False, edgecolor="white", linewidth=1.4)
        grid[0, k].add_patch(outline)
        for axis in grid[:, k]:
            axis.set_axis_off()
    write_figure(figure, path)


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.4 * panels, 4.8), dpi=150, layout="constrained")
    grid: Any = figure.subplots(1, panels, squeeze=False)
    return figure, list(grid[0])


def _panel(
    axis: Axes,
    curves: Sequence[Curve],
    values: Sequence[Array],
    anchors: Sequence[str],
    window: tuple[float, float],
) -> None:
    colours = iter(COLOURS * (len(curves) // len(COLOURS) + 1))
    styles = iter(STYLES * (len(curves) // len(STYLES) + 1))
    shown: list[float] = []
    above = False
    for curve, value in zip(curves, values, strict=True):
        finite = np.isfinite(value)
        bpp, value = curve.bpp[finite], value[finite]
        shown += [v for b, v in zip(bpp, value, strict=True) if window[0] <= b <= window[1]]
        if curve.codec in anchors:
            style, name = next(styles), as_text(curve.codec.upper())
            axis.plot(bpp, value, style, color=GREY, marker=".", markersize=4, label=name)
            continue
        colour, above = next(colours), not above
        line = "-" if len(bpp) > 1 else "none"
        name, texts = _labels(curve)
        axis.plot(
            bpp,
            value,
            linestyle=line,
            color=colour,
            marker="o",
            markersize=9,
            markeredgecolor="white",
            markeredgewidth=1.2,
            label=as_text(name),
            zorder=3,
        )
        every = -(-len(bpp) // LABELS)
        texts = [text if i % every == 0 else "" for i, text in enumerate(np.array(texts)[finite])]
        for text, b, v in zip(texts, bpp, value, strict=True):
            # Curves rise, so there is room above to the left and below to the right; codecs take
            # turns, and nothing is written over the axis on the left.
            left = above and (b - window[0]) / (window[1] - window[0]) > 0.15
            axis.annotate(
                text,
                (b, v),
                (-7, 6) if left else (8, -13),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=8.5,
                color=colour,
                zorder=4,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )
    axis.set_xlim(*window)
    if shown:
        margin = 0.08 * (max(shown) - min(shown)) or 0.5
        axis.set_ylim(min(shown) - margin, max(shown) + margin)
    axis.set_xlabel("bits per pixel (file bytes)")
    plain(axis)


def plain(axis: Axes) -> None:
    """A grid below the lines, no box around them."""
    axis.grid(color="#e4e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _labels(curve: Curve) -> tuple[str, list[str]]:
    """The codec's entry in the legend, and what tells its operating points apart."""
    lmbdas = ["" if lmbda is None else f"{lmbda:g}" for lmbda in curve.lmbda]
    rates = [f"r{rate}" for rate in curve.rate]
    if len(set(lmbdas)) > 1 and len(set(rates)) > 1:
        return f"{curve.codec} (λ, rate)", [f"{a} {b}" for a, b in zip(lmbdas, rates, strict=True)]
    if len(rates) == 1 and lmbdas[0]:
        return curve.codec, [f"λ={lmbdas[0]}"]
    if len(set(lmbdas)) > 1:
        return f"{curve.codec} (λ)", lmbdas
    return f"{curve.codec} (rate)" if len(rates) > 1 else curve.codec, rates


def _window(low: float, high: float) -> tuple[float, float]:
    """Rates to show: the codec's own and enough beyond to meet the anchors at equal quality."""
    span = high - low
    return max(0.0, low - max(0.1 * span, 0.6 * low)), high + max(0.5 * span, 1.2 * low)


def most_detail(image: NDArray[Any]) -> tuple[int, int, int]:
    """The window, as high as a quarter of the smaller side, with the largest sum of gradients."""
    height, width = image.shape[:2]
    side = max(min(height, width) // 4, min(height, width, 16))
    wide = min(side * 3 // 2, width)
    grey = image.mean(axis=-1)
    detail = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    detail += np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    sums = np.pad(detail, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    best, where = -math.inf, (0, 0)
    for top in range(0, height - side + 1, max(side // 4, 1)):
        for left in range(0, width - wide + 1, max(side // 4, 1)):
            bottom, right = top + side, left + wide
            total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            if total > best:
                best, where = total, (top, left)
    return (*where, side)


def as_text(name: str) -> str:
    """A name as figures take it: what stands between dollars is no formula, and control characters
    are no characters."""
    lines = (printable(line) for line in name.split("\n"))
    return "\n".join(lines).replace("$", r"\$")


def write_figure(figure: Figure, path: Path) -> None:
    """Write all or nothing, so that a report never shows half a picture.

    The format is the suffix's; an SVG of the same figure is the same file, byte by byte.
    """
    buffer = io.BytesIO()
    # Without pyplot, the canvas is picked by the format.
    with rc_context({"svg.hashsalt": "lic_train", "svg.fonttype": "none"}):
        dated = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(buffer, format=path.suffix[1:], metadata=dated)
    write_whole(path, buffer.getvalue())
