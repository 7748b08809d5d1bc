"""Channel attention: one weight per channel from what all channels hold on average."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Squeeze and excitation (Hu et al. 2018, arXiv 1709.01507), as EDIC uses it on its latents.

    ``(N, C, h, w)`` to the same shape: global average pool, C -> C/r -> C, sigmoid, multiply.
    The gate starts nearly open (0.98), so that adding it does not shrink the latents.

    Args:
        channels: C.
        reduction: r.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1), nn.Sigmoid(),
        )  # fmt: skip
        last: Any = self.gate[2]
        nn.init.constant_(last.bias, 4.0)

    def forward(self, y: Tensor) -> Tensor:
        return y * self.gate(self.squeeze(y))
