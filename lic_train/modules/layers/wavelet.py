"""Transforms that begin as a wavelet packet instead of as noise; shapes and keys stay as they are.

Four convolutions of stride 2 can hold four steps of an orthonormal Haar packet: each layer adds and
subtracts the pixels of its 2x2 blocks and passes on the bands in which photographs have most
energy. The synthesis holds the inverse. The other weights begin as fainter noise, which is what
training works with. Before any batch such a pair codes a photograph; a pair of
random layers spends its first thousands of batches learning light, colour and edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from lic_train.errors import ModelError
from lic_train.modules.layers.residual import Residual

STARTS = ("random", "wavelet")
COLOURS = {
    1: torch.ones(1, 1),
    2: torch.eye(2),
    3: torch.tensor([[3**-0.5] * 3, [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]]),
}
"""Orthonormal directions of the channels of a signal: of colours luma, red - blue, green."""
GREY_LEVELS = {1: 255.0, 2: 12.0, 3: 255.0}
"""What 1 in a signal is worth in grey levels of the picture: a pixel of motion moves edges, and
those of photographs are about 12 grey levels from one pixel to the next."""
AMPLITUDES = (0.93, 0.29, 0.11)
"""Root mean square of a coefficient of each colour at sequency 1, in [0, 1]; measured on 22
photographs. It falls as the sequency rises, like 1 / f."""
MEAN_AMPLITUDE = 6.2
"""That of the mean of a block of 16x16, beside the amplitude above."""
REST, LAST_REST = 0.3, 0.003
"""What random weights are multiplied with; those of the last analysis layer, whose output is coded,
are as good as silent."""
QUIET = 0.3
"""Standard deviation that a channel without a band begins with, in quantiser steps."""
GAMMA = 0.01
"""Of GDN, on its diagonal: near the identity."""


class Band(NamedTuple):
    """A band of the packet: which colour, and sign changes down and across a block (sequency)."""

    colour: int
    down: int
    across: int

    @property
    def amplitude(self) -> float:
        """Root mean square of its coefficients in photographs, about."""
        own = AMPLITUDES[min(self.colour, len(AMPLITUDES) - 1)]
        return own / (self.down + self.across) if self.down + self.across else own * MEAN_AMPLITUDE

    def halves(self) -> list[tuple[Band, Tensor]]:
        """The four bands that one more step makes of it, each with its 2x2 taps.

        The difference of neighbours is the lower of two frequencies where the band itself
        alternates: that is why sequency, not the order of the steps, says how fine a band is.
        """
        steps = [(0, torch.tensor([1.0, 1.0])), (1, torch.tensor([1.0, -1.0]))]
        made = []
        for a, rows in steps:
            for b, columns in steps:
                down = 2 * self.down + (a ^ (self.down & 1))
                across = 2 * self.across + (b ^ (self.across & 1))
                made.append((Band(self.colour, down, across), torch.outer(rows, columns) / 2))
        return made


class Step(NamedTuple):
    """A band that a layer computes from a band of the layer before."""

    band: Band
    parent: int
    taps: Tensor


def packet(channels: int, widths: Sequence[int]) -> list[list[Step]]:
    """The steps of each layer, those of most energy first, as many as the layer has room for."""
    layers: list[list[Step]] = []
    bands = [Band(colour, 0, 0) for colour in range(channels)]
    for width in widths:
        steps = [Step(b, j, taps) for j, band in enumerate(bands) for b, taps in band.halves()]
        steps.sort(key=lambda step: -step.band.amplitude)
        layers.append(steps[:width])
        bands = [step.band for step in layers[-1]]
    return layers


def gain_of(lmbda: float, channels: int) -> float:
    """Latents per unit of the signal, so that a quantiser step of 1 is what lambda wants.

    At high rate a step of D grey levels costs D^2 / 12 and saves log2 D bits: rate + lambda * MSE
    is lowest at D = sqrt(6 / (lambda ln 2)).
    """
    if not (math.isfinite(lmbda) and lmbda > 0):
        raise ModelError(f"start_lmbda is {lmbda}: start=wavelet wants a lambda above 0")
    return GREY_LEVELS[channels] / math.sqrt(6 / (lmbda * math.log(2)))


@torch.no_grad()
def wavelet_start(g_a: nn.Module, g_s: nn.Module, lmbda: float, mean: float = 0.5) -> Tensor:
    """Make a pair of transforms begin as a wavelet packet and its inverse.

    Args:
        g_a: its convolutions, some of stride 2, with GDN, LeakyReLU or residual blocks between
            them; the blocks begin as the identity.
        g_s: its mirror.
        lmbda: the trade-off that the gain is made for, see :func:`gain_of`.
        mean: of the signal; it becomes latents of zero.

    Returns:
        ``(M,)``: the standard deviation that each channel of y begins with, in quantiser steps.

    Raises:
        ModelError: the layers are too narrow, or the signal has not 1, 2 or 3 channels.
    """
    down, up = _convolutions(g_a), _convolutions(g_s)
    channels = down[0].in_channels
    if channels not in COLOURS:
        raise ModelError(f"start=wavelet codes signals of 1, 2 or 3 channels, not {channels}")
    form = _Form(g_a)
    widths = [form.room(layer.out_channels) for layer in down[:-1] if layer.stride[0] == 2]
    widths += [down[-1].out_channels] * (down[-1].stride[0] == 2)
    if min(widths) < 2 * channels:
        raise ModelError(
            f"start=wavelet wants layers of {2 * channels * form.size} channels or more for "
            f"signals of {channels}: make N and M larger, or say start=random"
        )
    layers, colours, gain = packet(channels, widths), COLOURS[channels], gain_of(lmbda, channels)
    _analysis(down, layers, colours, form, gain, mean)
    _synthesis(up, layers, colours, form, gain, mean)
    for layer in [*g_a.modules(), *g_s.modules()]:
        if isinstance(layer, GDN):
            gamma: Any = layer.gamma
            gamma.copy_(layer.gamma_reparam.init(GAMMA * torch.eye(len(gamma))))
        if isinstance(layer, Residual):
            layer.silence()
    scales = torch.full((down[-1].out_channels,), QUIET)
    for channel, step in enumerate(layers[-1]):
        scales[channel] = max(QUIET, gain * step.band.amplitude)
    return scales


def _analysis(
    convs: list[Any],
    layers: list[list[Step]],
    colours: Tensor,
    form: _Form,
    gain: float,
    mean: float,
) -> None:
    kernels, bands = iter(layers), len(colours)
    for conv in convs:
        first, last = conv is convs[0], conv is convs[-1]
        kernel = _kernel(next(kernels), bands) if conv.stride[0] == 2 else _identity(bands)
        read = colours if first else form.read(bands, conv.in_channels)
        bands = len(kernel)
        write = _plain(bands, conv.out_channels).T if last else form.write(bands, conv.out_channels)
        taps = torch.einsum("co,oikl,ij->cjkl", write, kernel, read) * (gain if last else 1)
        conv.weight.mul_(LAST_REST if last else REST)
        conv.weight[write.any(1)] = 0
        _add(conv.weight, taps)
        conv.bias.zero_()
        if first:
            conv.bias -= mean * taps.sum((1, 2, 3))


def _synthesis(
    convs: list[Any],
    layers: list[list[Step]],
    colours: Tensor,
    form: _Form,
    gain: float,
    mean: float,
) -> None:
    kernels, bands = iter(layers[::-1]), len(layers[-1])
    parents = [len(colours), *map(len, layers)][-2::-1]
    before = iter(parents)
    for conv in convs:
        first, last = conv is convs[0], conv is convs[-1]
        up = isinstance(conv, nn.ConvTranspose2d)
        weight = conv.weight.transpose(0, 1) if up else conv.weight  # (out, in, k, k)
        kernel = _kernel(next(kernels), next(before)) if up else _identity(bands)
        read = (_plain if first else form.read)(bands, conv.in_channels)
        bands = kernel.shape[1]
        write = colours.T if last else form.write(bands, conv.out_channels)
        taps = torch.einsum("oj,oikl,ci->cjkl", read, kernel, write) / (gain if first else 1)
        weight.mul_(REST)
        weight[:, read.any(0)] = 0
        _add(weight, taps)
        conv.bias.fill_(mean if last else 0.0)


class _Form:
    """How a layer inside a transform holds a band: GDN hands a channel on as it is; LeakyReLU does
    not, so there a band v is two channels, v and -v, and f(v) - f(-v) is (1 + slope) v."""

    def __init__(self, transform: nn.Module) -> None:
        slopes = [m.negative_slope for m in transform.modules() if isinstance(m, nn.LeakyReLU)]
        self.size = 2 if slopes else 1
        self._read = torch.tensor([1.0, -1.0]) / (1 + slopes[0]) if slopes else torch.ones(1)
        self._write = torch.tensor([1.0, -1.0]) if slopes else torch.ones(1)

    def room(self, channels: int) -> int:
        """Bands that fit into so many channels."""
        return channels // self.size

    def read(self, bands: int, channels: int) -> Tensor:
        """``(bands, channels)``: bands out of the channels that hold them."""
        return torch.cat(
            (
                torch.kron(torch.eye(bands), self._read),
                torch.zeros(bands, channels - bands * self.size),
            ),
            dim=1,
        )

    def write(self, bands: int, channels: int) -> Tensor:
        """``(channels, bands)``: channels that hold the bands."""
        held = torch.kron(torch.eye(bands), self._write[:, None])
        return torch.cat((held, torch.zeros(channels - bands * self.size, bands)))


def _plain(bands: int, channels: int) -> Tensor:
    return torch.eye(bands, channels)


def _kernel(steps: list[Step], parents: int) -> Tensor:
    """``(bands, parents, 2, 2)``."""
    kernel = torch.zeros(len(steps), parents, 2, 2)
    for number, step in enumerate(steps):
        kernel[number, step.parent] = step.taps
    return kernel


def _identity(bands: int) -> Tensor:
    return torch.eye(bands)[:, :, None, None]


def _add(weight: Tensor, taps: Tensor) -> None:
    """Lay the taps where a layer of stride 2 meets its own 2x2 block, or onto the centre."""
    start, size = weight.shape[-1] // 2, taps.shape[-1]
    weight[..., start : start + size, start : start + size] += taps


def _convolutions(transform: nn.Module) -> list[Any]:
    """Those that a signal passes one after the other, not those beside it."""
    if isinstance(transform, nn.Conv2d | nn.ConvTranspose2d):
        return [transform]
    if isinstance(transform, Residual):
        return []
    return [conv for child in transform.children() for conv in _convolutions(child)]
