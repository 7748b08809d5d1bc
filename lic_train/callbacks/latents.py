"""Where the bits of the run's latents go, and what its entropy models have learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor
from torch.nn.functional import interpolate

from lic_train.callbacks.look import Findings, Look, one_image
from lic_train.codec import Codec, Reconstruction
from lic_train.codec.signal import Signal
from lic_train.figures.latents import Density, Latents, latents_figure

DENSITIES = 6
"""Channels of a factorised prior whose densities are drawn: those that spread the most."""


class LatentFigures(Look):
    """Writes ``latents_<step>.png`` of the first image: bits per channel of every latent, a map of
    where the bits go, the densities of factorised priors and the scales of Gaussian ones.

    It knows likelihoods by their names and CompressAI's entropy models by their classes. A codec
    without one of these has a panel less. Everything here is estimated, none of it is a file.

    Args:
        out_dir, every_n_steps, images: see :class:`Look`. Costs one ``forward`` an image.
    """

    @torch.no_grad()
    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        pictures = {}
        for number, signal in enumerate(signals):
            suffix = f"_{number}" if number else ""
            figure = self.path(f"latents_*{suffix}.png", step)
            x = signal.pixels[None].float() / 255
            title = f"{signal.name}, step {step}"
            latents_figure(inspect(codec, x), one_image(signal.pixels), figure, title)
            pictures[f"live/latents{suffix}"] = figure
        return Findings(pictures=pictures)


@torch.no_grad()
def inspect(codec: Codec, x: Tensor) -> Latents:
    """What one image ``(1, 3, H, W)`` or clip ``(1, T, 3, H, W)`` in [0, 1] tells of a codec in
    eval mode. Of a clip, bits are those of all its frames."""
    with recorded_scales(codec) as scales:
        parts = codec(x)
    channels: dict[str, Any] = {}
    where = x.new_zeros(x.shape[-2:])
    for part in parts:
        for latent, likelihoods in part.likelihoods.items():
            bits = -likelihoods.float().log2()
            name = f"{part.name} {latent}" if len(parts) > 1 else latent
            if bits.ndim > 1:
                channels[name] = bits.transpose(0, 1).flatten(1).sum(1).numpy()
            if bits.ndim == 4:
                where += _spread(bits, part, x.shape[-2:])
    densities = [d for b in codec.entropy_bottlenecks() for d in _densities(b)]
    return Latents(
        channels, where.numpy(), densities, torch.cat(scales).numpy() if scales else None
    )


@contextmanager
def recorded_scales(codec: Codec) -> Iterator[list[Tensor]]:
    """The scales that Gaussian entropy models are given while the context lasts, flattened."""
    seen: list[Tensor] = []
    models: list[Any] = [m for m in codec.modules() if isinstance(m, GaussianConditional)]

    def watch(model: Any) -> None:
        likelihood = model._likelihood

        def record(inputs: Tensor, scales: Tensor, *others: Any, **named: Any) -> Tensor:
            seen.append(scales.detach().flatten().float())
            return likelihood(inputs, scales, *others, **named)

        model._likelihood = record

    for model in models:
        watch(model)
    try:
        yield seen
    finally:
        for model in models:
            del model._likelihood


def _spread(bits: Tensor, part: Reconstruction, size: Sequence[int]) -> Tensor:
    """Bits ``(1, C, h, w)`` to bits per pixel of the whole picture, their sum kept."""
    there = bits.sum(dim=(0, 1))[None, None]
    cells = interpolate(there, size=tuple(size), mode="nearest")[0, 0]
    return cells * (there.sum() / cells.sum().clamp(min=1e-9))


def _densities(model: EntropyBottleneck) -> list[Density]:
    """Probabilities of the unit bins round whole numbers, per channel."""
    low, median, high = model.quantiles.detach()[:, 0].T
    widest = (high - low).topk(min(DENSITIES, len(low))).indices
    reach = math.ceil(float(torch.maximum(high - median, median - low)[widest].max()))
    offsets = torch.linspace(-reach, reach, 201)
    points = median[:, None, None] + offsets
    any_model: Any = model
    likelihoods = any_model._likelihood(points)
    probabilities = likelihoods[0] if isinstance(likelihoods, tuple) else likelihoods
    return [Density(int(c), points[c, 0].numpy(), probabilities[c, 0].numpy()) for c in widest]
