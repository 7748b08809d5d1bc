"""The convolutional LSTM codec: all rates from one network that remembers what it has sent."""

from __future__ import annotations

from torch import nn

from lic_train.modules.codecs.base.progressive import ProgressiveCodec
from lic_train.modules.layers.conv_lstm import ConvLSTM, RecurrentLayers, conv


class RNN(ProgressiveCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the convolutional/deconvolutional LSTM.

    ::

        r_{t-1} -> conv -> conv LSTMs -> 1x1, tanh -> B -> b_t, 32 bits per 16x16 pixels
        b_t -> 1x1 -> n x (conv LSTM -> depth to space) -> 1x1, tanh -> x_hat_t

    A 32x32 thumbnail costs 128 bits, 16 bytes, an iteration. The paper's own figures leave the
    layers open. At ``stride: 16`` they are those of the follow-up (arXiv 1608.05148, kernels as in
    its re-implementations), at ``width: 512`` 35,456,800 weights, and biases beside them. At
    ``stride: 4`` there are two LSTMs a side, as in the paper, and the code is 8x8 positions of 2
    bits: shallower, and learnt in minutes. Not reproduced: the 216 million thumbnails, the learning
    rates and the number of steps, which were never published.

    Args:
        width: channels of the widest cells; the others are 1/2, 1/4 and 1/8 of it.
        bits: channels of the code, per square of ``stride`` pixels a side; the paper's rate is
            ``stride ** 2 / 8``.
        stride: 16 or 4.
        iterations: that are trained and can be sent.
        additive: whether reconstructions add up, as in later implementations; the paper's LSTM
            gives the whole image at every iteration.
        tile: side in pixels of squares coded independently, a multiple of ``stride``; None: none.
        target_psnr: dB at which a tile gets no further iterations; None sends all.
        context: channels of the net that predicts bits from bits; 0: bits are sent as they are.
        code_bits: False does not use it, to see what it saves.
    """

    def __init__(
        self,
        width: int = 512,
        bits: int = 32,
        stride: int = 16,
        iterations: int = 16,
        additive: bool = False,
        tile: int | None = None,
        target_psnr: float | None = None,
        context: int = 0,
        code_bits: bool = True,
    ) -> None:
        if width < 16 or width % 16:
            raise ValueError(f"width is {width}, it must be a multiple of 16")
        if stride not in NETWORKS:
            raise ValueError(f"stride is {stride}, it must be one of {sorted(NETWORKS)}")
        encoder, decoder = NETWORKS[stride]
        super().__init__(
            encoder(width, bits),
            decoder(width, bits),
            bits=bits,
            stride=stride,
            iterations=iterations,
            additive=additive,
            tile=tile,
            target_psnr=target_psnr,
            context=context,
            code_bits=code_bits,
        )


def deep_encoder(width: int, bits: int) -> RecurrentLayers:
    """The follow-up's four layers, of which three remember: to 1/16 of the sides."""
    return RecurrentLayers([
        conv(3, width // 8, kernel=3, stride=2),
        ConvLSTM(width // 8, width // 2, stride=2),
        ConvLSTM(width // 2, width, stride=2),
        ConvLSTM(width, width, stride=2),
        conv(width, bits), nn.Tanh(),
    ])  # fmt: skip


def deep_decoder(width: int, bits: int) -> RecurrentLayers:
    """Four cells, each of which doubles the sides."""
    return RecurrentLayers([
        conv(bits, width),
        ConvLSTM(width, width), nn.PixelShuffle(2),
        ConvLSTM(width // 4, width), nn.PixelShuffle(2),
        ConvLSTM(width // 4, width // 2, hidden_kernel=3), nn.PixelShuffle(2),
        ConvLSTM(width // 8, width // 4, hidden_kernel=3), nn.PixelShuffle(2),
        conv(width // 16, 3), nn.Tanh(),
    ])  # fmt: skip


def encoder(width: int, bits: int) -> RecurrentLayers:
    """Three layers, of which two remember: to 1/4 of the sides."""
    return RecurrentLayers([
        conv(3, width // 4, kernel=3, stride=2),
        ConvLSTM(width // 4, width, stride=2),
        ConvLSTM(width, width),
        conv(width, bits), nn.Tanh(),
    ])  # fmt: skip


def decoder(width: int, bits: int) -> RecurrentLayers:
    """Two cells, each of which doubles the sides."""
    return RecurrentLayers([
        conv(bits, width),
        ConvLSTM(width, width), nn.PixelShuffle(2),
        ConvLSTM(width // 4, width // 2), nn.PixelShuffle(2),
        conv(width // 8, 3), nn.Tanh(),
    ])  # fmt: skip


NETWORKS = {16: (deep_encoder, deep_decoder), 4: (encoder, decoder)}
"""Encoder and decoder by stride."""
