"""The analysis and synthesis transforms of the hyperprior family, layer by layer as CompressAI's.

Ballé et al. 2018 (arXiv 1802.01436) and Minnen et al. 2018 (arXiv 1809.02736). The indices in
these ``Sequential``s are CompressAI's, so that a state dict goes both ways.
"""

from __future__ import annotations

from typing import Any

from compressai.layers import GDN
from compressai.models.utils import conv, deconv
from torch import nn


def analysis(N: int, M: int, channels: int = 3) -> nn.Sequential:
    """g_a: image ``(B, channels, H, W)`` to latents y ``(B, M, H/16, W/16)``."""
    g_a = nn.Sequential(
        conv(channels, N), GDN(N),
        conv(N, N), GDN(N),
        conv(N, N), GDN(N),
        conv(N, M),
    )  # fmt: skip
    # As torch starts it, y has a standard deviation of 0.05 and drowns in the rounding noise;
    # ten times that, and the first few hundred batches already teach something.
    last: Any = g_a[-1]
    last.weight.data *= 10
    return g_a


def synthesis(N: int, M: int, channels: int = 3) -> nn.Sequential:
    """g_s: latents y_hat ``(B, M, H/16, W/16)`` to image ``(B, channels, H, W)``, unclamped."""
    g_s = nn.Sequential(
        deconv(M, N), GDN(N, inverse=True),
        deconv(N, N), GDN(N, inverse=True),
        deconv(N, N), GDN(N, inverse=True),
        deconv(N, channels),
    )  # fmt: skip
    last: Any = g_s[-1]
    last.bias.data.fill_(0.5)  # begins at grey, not at black
    return g_s


def hyper_analysis(N: int, M: int) -> nn.Sequential:
    """h_a of the mean-scale family: signed y ``(B, M, h, w)`` to z ``(B, N, h/4, w/4)``."""
    return nn.Sequential(
        conv(M, N, stride=1, kernel_size=3), nn.LeakyReLU(inplace=True),
        conv(N, N), nn.LeakyReLU(inplace=True),
        conv(N, N),
    )  # fmt: skip


def hyper_synthesis(N: int, M: int) -> nn.Sequential:
    """h_s of the mean-scale family: z_hat ``(B, N, h/4, w/4)`` to ``(B, 2M, h, w)``."""
    return nn.Sequential(
        deconv(N, M), nn.LeakyReLU(inplace=True),
        deconv(M, M * 3 // 2), nn.LeakyReLU(inplace=True),
        conv(M * 3 // 2, M * 2, stride=1, kernel_size=3),
    )  # fmt: skip


def scale_hyper_analysis(N: int, M: int) -> nn.Sequential:
    """h_a of the scale hyperprior: abs(y) ``(B, M, h, w)`` to z ``(B, N, h/4, w/4)``."""
    return nn.Sequential(
        conv(M, N, stride=1, kernel_size=3), nn.ReLU(inplace=True),
        conv(N, N), nn.ReLU(inplace=True),
        conv(N, N),
    )  # fmt: skip


def scale_hyper_synthesis(N: int, M: int) -> nn.Sequential:
    """h_s of the scale hyperprior: z_hat to scales ``(B, M, h, w)``, >= 0."""
    return nn.Sequential(
        deconv(N, N), nn.ReLU(inplace=True),
        deconv(N, N), nn.ReLU(inplace=True),
        conv(N, M, stride=1, kernel_size=3), nn.ReLU(inplace=True),
    )  # fmt: skip


def entropy_parameters(channels_in: int, M: int) -> nn.Sequential:
    """1x1 network from context (and hyper) features to ``2M`` = (scales, means), in that order."""
    return nn.Sequential(
        nn.Conv2d(channels_in, M * 10 // 3, 1), nn.LeakyReLU(inplace=True),
        nn.Conv2d(M * 10 // 3, M * 8 // 3, 1), nn.LeakyReLU(inplace=True),
        nn.Conv2d(M * 8 // 3, M * 2, 1),
    )  # fmt: skip


def mixture_hyper_analysis(M: int) -> nn.Sequential:
    """EDIC's h_a: y ``(B, M, h, w)`` to z ``(B, M, h/4, w/4)``."""
    return nn.Sequential(
        conv(M, M, stride=1, kernel_size=3), nn.LeakyReLU(inplace=True),
        conv(M, M), nn.LeakyReLU(inplace=True),
        nn.Conv2d(M, M, 5, stride=2, padding=2, bias=False),
    )  # fmt: skip


def mixture_parameters(M: int, components: int) -> nn.Sequential:
    """1x1 network from h_s features ``2M`` to ``3 * K * M`` = (scales, means, weight logits)."""
    return nn.Sequential(
        nn.Conv2d(2 * M, 3 * M, 1), nn.LeakyReLU(inplace=True),
        nn.Conv2d(3 * M, 4 * M, 1), nn.LeakyReLU(inplace=True),
        nn.Conv2d(4 * M, 3 * components * M, 1, bias=False),
    )  # fmt: skip
