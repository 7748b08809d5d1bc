"""The convolutional LSTM codec: all rates from one network that remembers what it has sent."""

from __future__ import annotations

from torch import nn

from lic_train.modules.codecs.progressive import ProgressiveCodec
from lic_train.modules.layers.conv_lstm import Chain, ConvLSTM, conv


class RNN(ProgressiveCodec):
    """Toderici et al. 2016, "Variable Rate Image Compression with Recurrent Neural Networks"
    (arXiv 1511.06085): the convolutional/deconvolutional LSTM.

    ::

        r_{t-1} -> conv -> 3 x conv LSTM -> 1x1, tanh -> B -> b_t, 32 bits per 16x16 pixels
        b_t -> 1x1 -> 4 x (conv LSTM -> depth to space) -> 1x1, tanh -> x_hat_t

    A 32x32 thumbnail costs 128 bits, 16 bytes, an iteration. The layers are those of the follow-up
    (arXiv 1608.05148, kernels as in its re-implementations), since the paper's own figures leave
    them open; at ``width: 512`` there are 35,456,800 weights. Not reproduced: the 216 million
    thumbnails, the learning rates and the number of steps, which were never published.

    Args:
        width: channels of the widest cells; the others are 1/2, 1/4 and 1/8 of it.
        bits: channels of the code, per 16x16 pixels.
        iterations: that are trained and can be sent.
        additive: whether reconstructions add up, as in later implementations; the paper's LSTM
            gives the whole image at every iteration.
        tile: side in pixels of squares coded independently, a multiple of 16; None: none.
        target_psnr: dB at which a tile gets no further iterations; None sends all.
        context: channels of the net that predicts bits from bits; 0: bits are sent as they are.
        code_bits: False does not use it, to see what it saves.
    """

    def __init__(
        self,
        width: int = 512,
        bits: int = 32,
        iterations: int = 16,
        additive: bool = False,
        tile: int | None = None,
        target_psnr: float | None = None,
        context: int = 0,
        code_bits: bool = True,
    ) -> None:
        if width < 16 or width % 16:
            raise ValueError(f"width is {width}, it must be a multiple of 16")
        super().__init__(
            _encoder(width, bits),
            _decoder(width, bits),
            bits=bits,
            stride=16,
            iterations=iterations,
            additive=additive,
            tile=tile,
            target_psnr=target_psnr,
            context=context,
            code_bits=code_bits,
        )


def _encoder(width: int, bits: int) -> Chain:
    return Chain([
        conv(3, width // 8, kernel=3, stride=2),
        ConvLSTM(width // 8, width // 2, stride=2),
        ConvLSTM(width // 2, width, stride=2),
        ConvLSTM(width, width, stride=2),
        conv(width, bits), nn.Tanh(),
    ])  # fmt: skip


def _decoder(width: int, bits: int) -> Chain:
    return Chain([
        conv(bits, width),
        ConvLSTM(width, width), nn.PixelShuffle(2),
        ConvLSTM(width // 4, width), nn.PixelShuffle(2),
        ConvLSTM(width // 4, width // 2, hidden_kernel=3), nn.PixelShuffle(2),
        ConvLSTM(width // 8, width // 4, hidden_kernel=3), nn.PixelShuffle(2),
        conv(width // 16, 3), nn.Tanh(),
    ])  # fmt: skip
