"""What the bits of the earlier iterations say about those of the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lic_train.modules.layers.conv_lstm import ConvLSTM, Pointwise, RecurrentLayers

LEAST = 2.0**-8
"""Probability that a bit has at least in training: one surprise must not outweigh all else."""


class BitContext(RecurrentLayers):
    """``::

        b_1, ..., b_{t-1} -> conv LSTM -> 1x1 -> logits of b_t

    A position knows its own and its eight neighbours' bits of every earlier iteration; within an
    iteration all bits are coded at once. In the spirit of the BinaryRNN of Toderici et al. 2017
    (arXiv 1608.05148), which is a raster scan within each iteration as well.

    Args:
        bits: channels of the code.
        channels: of the LSTM.
        kernel: of its input: 3, or 1 where positions are coded independently.
    """

    def __init__(self, bits: int, channels: int, kernel: int = 3) -> None:
        super().__init__([ConvLSTM(bits, channels, kernel), Pointwise(channels, bits)])


def likelihood_of(signs: Tensor, logits: Tensor) -> Tensor:
    """Probability of -1 or +1, differentiable in the logits, in [``LEAST``, 1]."""
    return torch.sigmoid(signs.detach() * logits).clamp(min=LEAST)


class Forecast:
    """Logits of the bits of each iteration in turn, given those before; the same on either side.

    Args:
        network: ``(bits of the last iteration, state) -> (logits of the next, state)``.
        like: of the shape of the bits: before the first iteration there are zeros.
    """

    def __init__(self, network: Callable[[Tensor, Any], tuple[Tensor, Any]], like: Tensor) -> None:
        self.network, self.state, self.last = network, None, torch.zeros_like(like)

    def next(self) -> Tensor:
        """Of the iteration that comes; tell its bits by :meth:`seen` before asking again."""
        logits, self.state = self.network(self.last, self.state)
        return logits

    def seen(self, signs: Tensor) -> None:
        """Bits of the iteration that :meth:`next` spoke of."""
        self.last = signs.detach()


def nothing_known(signs: Tensor, state: None) -> tuple[Tensor, None]:
    """The network of a forecast without a context model: every bit is as likely as not."""
    return torch.zeros_like(signs), None
