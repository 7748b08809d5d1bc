"""The figure of an image's latents: bits per channel, where they go, densities and scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lic_train.figures.curves import COLOURS, INK, STYLES, as_text, plain, write_figure

LEAST_SCALE = 0.11
"""The scale below which Gaussian entropy models do not go (Ballé et al. 2018)."""


class Density(NamedTuple):
    """The probability of a unit bin of one channel, by its centre."""

    channel: int
    value: NDArray[Any]
    probability: NDArray[Any]


class Latents(NamedTuple):
    """What one image tells of a codec; all bits are estimated.

    Attributes:
        channels: bits of each channel of each latent, by its name.
        where: ``(H, W)``, bits per pixel.
        densities: of factorised priors.
        scales: of Gaussian priors, of all latents; None without any.
    """

    channels: Mapping[str, NDArray[Any]]
    where: NDArray[Any]
    densities: Sequence[Density]
    scales: NDArray[Any] | None


def latents_figure(latents: Latents, pixels: ArrayLike, path: Path, title: str) -> None:
    """Write a PNG of the panels that there are.

    Args:
        latents: of the image.
        pixels: the image, ``(3, H, W)`` uint8.
        path: of the PNG, written atomically.
        title: over the figure.
    """
    there = [True, latents.where.any(), bool(latents.densities), latents.scales is not None]
    draw = [panel for panel, is_there in zip(_PANELS, there, strict=True) if is_there]
    columns = min(len(draw), 2)
    lines = -(-len(draw) // columns)
    figure = Figure(figsize=(6.2 * columns, 4.2 * lines), dpi=100, layout="constrained")
    axes = list(np.ravel(figure.subplots(lines, columns)))
    for panel, axis in zip(draw, axes, strict=False):
        panel(axis, latents, pixels)
    for axis in axes[len(draw) :]:
        axis.set_axis_off()
    total = sum(float(bits.sum()) for bits in latents.channels.values())
    size = latents.where.size
    title += f": {total / size:.3f} bpp estimated"
    figure.suptitle(as_text(title), color=INK, fontsize=11, fontweight="bold")
    write_figure(figure, path)


def _channels(axis: Axes, latents: Latents, pixels: ArrayLike) -> None:
    total = sum(float(bits.sum()) for bits in latents.channels.values()) or 1.0
    for k, (name, bits) in enumerate(latents.channels.items()):
        used = int((bits > 1e-3 * bits.sum()).sum())
        label = f"{name}: {bits.sum() / total:.0%} of bits, {used} of {len(bits)} channels used"
        style = STYLES[k // len(COLOURS) % len(STYLES)]
        axis.plot(np.sort(bits)[::-1], style, color=COLOURS[k % len(COLOURS)], label=label)
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.1)
    axis.set_xlabel("channel, by falling bits (used: over 0.1 % of its latent's)")
    axis.set_ylabel("bits (estimated)")
    plain(axis)
    axis.legend(frameon=False, fontsize=8)


def _where(axis: Axes, latents: Latents, pixels: ArrayLike) -> None:
    grey = np.asarray(pixels, dtype=np.float32).mean(axis=0)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
    top = float(np.percentile(latents.where, 99.5)) or 1.0
    shown = axis.imshow(latents.where, cmap="inferno", vmin=0, vmax=top, alpha=0.7)
    assert axis.figure is not None
    axis.figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02, label="bits per pixel")
    axis.set_title("where the bits go", fontsize=9, color=INK)
    axis.set_axis_off()


def _densities(axis: Axes, latents: Latents, pixels: ArrayLike) -> None:
    for k, density in enumerate(latents.densities):
        colour = COLOURS[k % len(COLOURS)]
        label = f"channel {density.channel}"
        axis.plot(density.value, density.probability, color=colour, label=label)
    axis.set_xlabel("z")
    axis.set_ylabel("probability of a bin of width 1")
    plain(axis)
    axis.set_title("factorised prior, its widest channels", fontsize=9, color=INK)
    axis.legend(frameon=False, fontsize=7)


def _scales(axis: Axes, latents: Latents, pixels: ArrayLike) -> None:
    assert latents.scales is not None
    scales = np.maximum(latents.scales, 1e-3)
    low, high = min(float(scales.min()), LEAST_SCALE), max(float(scales.max()), 10.0)
    bins: Any = np.geomspace(low / 2, high, 80)
    axis.hist(scales, bins=bins, color=COLOURS[1], weights=np.full(len(scales), 1 / len(scales)))
    axis.axvline(LEAST_SCALE, color=INK, linestyle=":", label=f"least scale, {LEAST_SCALE}")
    axis.set_xscale("log")
    axis.set_xlabel("scale predicted for an element")
    axis.set_ylabel("share of elements")
    plain(axis)
    axis.set_title("Gaussian prior", fontsize=9, color=INK)
    axis.legend(frameon=False, fontsize=8)


_PANELS = (_channels, _where, _densities, _scales)
