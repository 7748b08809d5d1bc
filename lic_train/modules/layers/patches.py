"""Fully connected networks on 8x8 patches: 1x1 convolutions over all that a patch holds."""

from __future__ import annotations

from torch import nn

from lic_train.modules.layers.conv_lstm import ConvLSTM, Pointwise, RecurrentLayers

PATCH = 8
"""Pixels a side of a patch."""
SAMPLES = 3 * PATCH**2


def dense(inputs: int, outputs: int) -> list[nn.Module]:
    """A fully connected layer and its tanh."""
    return [Pointwise(inputs, outputs), nn.Tanh()]


def recurrent_encoder(width: int, bits: int) -> RecurrentLayers:
    """Patch to code: a tanh layer, two LSTMs, ``bits`` values in (-1, 1)."""
    return RecurrentLayers([
        nn.PixelUnshuffle(PATCH),
        *dense(SAMPLES, width),
        ConvLSTM(width, width, kernel=1),
        ConvLSTM(width, width, kernel=1),
        *dense(width, bits),
    ])  # fmt: skip


def recurrent_decoder(width: int, bits: int) -> RecurrentLayers:
    """Code to patch: the same, the other way round."""
    return RecurrentLayers([
        *dense(bits, width),
        ConvLSTM(width, width, kernel=1),
        ConvLSTM(width, width, kernel=1),
        *dense(width, SAMPLES),
        nn.PixelShuffle(PATCH),
    ])  # fmt: skip


def encoder(width: int, bits: int) -> RecurrentLayers:
    """Patch to code by four tanh layers; nothing is remembered."""
    layers = [*dense(SAMPLES, width), *dense(width, width), *dense(width, width)]
    return RecurrentLayers([nn.PixelUnshuffle(PATCH), *layers, *dense(width, bits)])


def decoder(width: int, bits: int) -> RecurrentLayers:
    """Code to patch by four tanh layers."""
    layers = [*dense(bits, width), *dense(width, width), *dense(width, width)]
    return RecurrentLayers([*layers, *dense(width, SAMPLES), nn.PixelShuffle(PATCH)])
