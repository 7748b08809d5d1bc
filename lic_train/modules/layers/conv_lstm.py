"""Convolutional LSTM cells, and chains of layers some of which remember.

A network here is called as ``y, state = network(x, state)``. ``state`` is None at the first call;
what a network keeps in it is its own business, so whoever calls it need not know what it is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAIN = 1.5
"""Of what a cell writes, at the start: makes up for what tanh takes. As torch starts it, every
cell makes a signal smaller, and the first hundred batches of a chain teach nothing."""
GATES = 0.1
"""Of the same weights where they feed gates: a gate begins all but constant, so that a chain of
cells begins all but linear."""
REMEMBER, OPEN = 1.0, 2.0
"""Biases at the start of the forget gate and of the two others: a cell begins by keeping what it
has, else half of it is gone at every step, and by writing and showing it."""
State = tuple[Tensor, Tensor]
"""(h, c), each ``(N, channels, H, W)``: the hidden state and the cell state."""


class ConvLSTM(nn.Module):
    """::

        f, i, o = sigmoid(W x + U h + b);  g = tanh(W x + U h + b)
        c <- f c + i g;  h <- o tanh(c)

    W is a convolution that may stride, U one that keeps the size; no peepholes. With 1x1 kernels on
    1x1 maps it is the fully connected LSTM. Without the biases, as re-implementations have it, a
    chain of these is all but an odd function: it codes what is in a picture, not how light it is.

    Args:
        in_channels: of x.
        channels: of h and c.
        kernel: of W, odd.
        hidden_kernel: of U, odd.
        stride: of W.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 3,
        hidden_kernel: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.input = conv(in_channels, 4 * channels, kernel, stride)
        self.hidden = conv(channels, 4 * channels, hidden_kernel, bias=False)
        for part in (self.input, self.hidden):
            nn.init.normal_(part.weight, std=GAIN / part.weight[0].numel() ** 0.5)
            part.weight.data[: 3 * channels] *= GATES
        starts = (REMEMBER, OPEN, OPEN, 0.0)
        self.input.bias = nn.Parameter(torch.tensor(starts).repeat_interleave(channels))

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """x ``(N, in_channels, H, W)`` to h ``(N, channels, H/stride, W/stride)``."""
        gates = self.input(x)
        if state is not None:  # else h and c are zero
            gates = gates + self.hidden(state[0])
        f, i, o, g = gates.chunk(4, dim=1)
        c = torch.sigmoid(i) * torch.tanh(g)
        c = c.to(torch.promote_types(c.dtype, torch.float32))  # a sum of many steps: not in bf16
        if state is not None:
            c = c + torch.sigmoid(f) * state[1]
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class RecurrentLayers(nn.ModuleList):
    """Layers one after the other; every :class:`ConvLSTM` among them keeps its state."""

    def forward(self, x: Tensor, states: list[State] | None) -> tuple[Tensor, list[State]]:
        """x and the states of the last call, None at the first, to y and the new states."""
        kept: list[State] = []
        for layer in self:
            if isinstance(layer, ConvLSTM):
                x, state = layer(x, states[len(kept)] if states else None)
                kept.append(state)
            else:
                x = layer(x)
        return x, kept


class Stages(nn.ModuleList):
    """Another network for each call: its state is how many calls there were."""

    def forward(self, x: Tensor, calls: int | None) -> tuple[Tensor, int]:
        """x through the next of the networks, each of which forgets."""
        network: Any = self[calls or 0]
        y, _ = network(x, None)
        return y, (calls or 0) + 1


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; on maps of a single pixel the matrix product it is, in bf16 on a CPU six
    times as fast."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (1, 1):
            return super().forward(x)
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


def conv(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution whose output has ``1 / stride`` of the sides."""
    if kernel == stride == 1:
        return Pointwise(in_channels, out_channels, bias)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias)
