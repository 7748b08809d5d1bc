"""Where latents lie given what is decoded already: log2 scale and mean, both in steps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_train.modules.layers.coupling import zero_last


class FixedPrior(nn.Module):
    """One learned scale and mean per channel, whatever else is known.

    Args:
        channels: of the latents.
        typical: scale that they start with, in units of the latents.
    """

    def __init__(self, channels: int, typical: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log2(typical)))
        self.mean = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, shape: tuple[int, ...], step: float) -> tuple[Tensor, Tensor]:
        """Parameters of latents of this shape, ``(N, channels, h, w)``."""
        log_scale = self.log_scale - math.log2(step)
        return log_scale.expand(shape), (self.mean / step).expand(shape)


class ConditionalPrior(nn.Module):
    """Scale and mean from the sums around and the differences that are decoded already.

    ::

        h - blur(h), details -> /step -+-> conv3x3 --------------------------> mean
                                       +-> conv3x3, asinh, 1x1, conv3x3 -> log2 scale, mean

    In steps all rates look alike, and ``asinh`` makes of a contrast its logarithm, which is what
    the log scale follows. ``log2 step`` is a further input of the 1x1 layer.

    Args:
        decoded: channels of the details that are decoded already; h has 3.
        channels: of the latents.
        width: of the net.
        typical: scale that the latents start with, in their units.
    """

    def __init__(self, decoded: int, channels: int, width: int, typical: float) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.full((channels, 1, 1), math.log2(typical)))
        self.linear = nn.Conv2d(3 + decoded, channels, 3, padding=1, bias=False)
        self.head = nn.Conv2d(3 + decoded, width, 3, padding=1)
        self.net = nn.Sequential(
            nn.Conv2d(width + 1, width, 1), nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(width, 2 * channels, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.linear.weight)
        zero_last(self.net)

    def forward(self, h: Tensor, details: list[Tensor], step: float) -> tuple[Tensor, Tensor]:
        """Parameters of the next latents.

        Args:
            h: decoded sums of this level, ``(N, 3, h, w)``.
            details: what else of this level is decoded.
            step: the quantiser's, in units of the latents.
        """
        blurred = F.avg_pool2d(h, 3, stride=1, padding=1, count_include_pad=False)
        contrasts = torch.cat((h - blurred, *details), dim=1) / step
        octave = math.log2(255 * step)
        features = torch.asinh(self.head(contrasts))
        plane = torch.full_like(features[:, :1], octave / 8)
        log_scale, shift = self.net(torch.cat((features, plane), dim=1)).to(h.dtype).chunk(2, dim=1)
        log_scale = log_scale + self.base - math.log2(step)
        return log_scale, self.linear(contrasts).to(h.dtype) + shift
