"""Blocks that add to what passes them: bottlenecks and attention, as ELIC has them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

SHUT = -4.0
"""Logit of a gate that begins as good as shut."""


class Residual(nn.Module, ABC):
    """A block of as many channels out as in."""

    @abstractmethod
    def silence(self) -> None:
        """Let it begin as the identity, or nearly so."""


class Bottleneck(Residual):
    """``x + conv1x1(relu(conv3x3(relu(conv1x1(x)))))`` over half the channels (He et al. 2016).

    Args:
        channels: 2 or more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, half, 1), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(half, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)

    @torch.no_grad()
    def silence(self) -> None:
        for p in self.branch[-1].parameters():
            p.zero_()


class Attention(Residual):
    """``x + trunk(x) * sigmoid(gate(x))``: Cheng et al. 2020 (arXiv 2001.01568), non-local part
    left out.

    Args:
        channels: 2 or more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(Bottleneck(channels) for _ in range(3)))
        self.gate = nn.Sequential(
            *(Bottleneck(channels) for _ in range(3)), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.trunk(x) * torch.sigmoid(self.gate(x))

    @torch.no_grad()
    def silence(self) -> None:
        for block in self.modules():
            if isinstance(block, Bottleneck):
                block.silence()
        last = self.gate[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.zero_()
        last.bias.fill_(SHUT)


def residual_analysis(N: int, M: int, blocks: int, attention: bool) -> nn.Sequential:
    """ELIC's g_a: image ``(B, 3, H, W)`` to y ``(B, M, H/16, W/16)``.

    Args:
        N: channels of the layers before the last.
        M: channels of y.
        blocks: bottlenecks behind each of the first three convolutions.
        attention: with attention at a stride of 4 and on y.
    """
    layers: list[nn.Module] = [_down(3, N), *_bottlenecks(N, blocks)]
    layers += [_down(N, N), *_bottlenecks(N, blocks), *_attention(N, attention)]
    layers += [_down(N, N), *_bottlenecks(N, blocks)]
    last = _down(N, M)
    last.weight.data *= 10  # or y drowns in the rounding noise, see :func:`.transforms.analysis`
    return nn.Sequential(*layers, last, *_attention(M, attention))


def residual_synthesis(N: int, M: int, blocks: int, attention: bool) -> nn.Sequential:
    """ELIC's g_s, the mirror: y_hat to the image, unclamped."""
    layers: list[nn.Module] = [*_attention(M, attention), _up(M, N), *_bottlenecks(N, blocks)]
    layers += [_up(N, N), *_attention(N, attention), *_bottlenecks(N, blocks)]
    layers += [_up(N, N), *_bottlenecks(N, blocks)]
    last = _up(N, 3)
    assert last.bias is not None
    last.bias.data.fill_(0.5)  # begins at grey, not at black
    return nn.Sequential(*layers, last)


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _bottlenecks(channels: int, count: int) -> list[nn.Module]:
    return [Bottleneck(channels) for _ in range(count)]


def _attention(channels: int, wanted: bool) -> list[nn.Module]:
    return [Attention(channels)] if wanted else []
