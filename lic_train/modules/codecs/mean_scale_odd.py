"""The mean-scale hyperprior with hierarchical odd padding: no pixel is coded that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lic_train.modules.codecs.base.transform import LATENT_STRIDE, LMBDAS
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.entropy.wavefront import CodeStep
from lic_train.modules.layers.odd_padding import OddAnalysis, OddSynthesis


class MeanScaleOdd(MeanScale):
    """The mean-scale hyperprior (arXiv 1809.02736) as COMPASS (ICCV 2023) runs it.

    ::

        x -> [pad, conv] x 4 -> y -> [pad, conv] x 3 -> z -> Q -> z_hat
                                z_hat -> [conv, crop] x 3 -> (sigma, mu)
             y -> Q(y - mu) + mu -> y_hat -> [deconv, crop] x 4 -> x_hat

    Weights are those of the mean-scale codec and load both ways. Not reproduced: the decoder of
    the official code keeps the padding of the last image it encoded; here it follows from the
    size. In training that code decodes round(y), in coding round(y - mu) + mu; here it is always
    the latter.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        start: "wavelet": the transforms begin as a wavelet packet, see :mod:`.layers.wavelet`;
            "random": as noise.
        start_lmbda: the trade-off that a wavelet start is made for.
        quantise: what stands for rounding in training, see :mod:`.base.quantise`.
        rates: operating points of one training; between them every real rate can be coded.
        lmbdas: with several rates, the trade-off of each, or the first and the last, between which
            they are geometric; ``start_lmbda`` is then the middle.
    """

    @staticmethod
    def arguments_of_before(arguments: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a model saved by version 0.1 by their names of today."""
        if "straight_through" not in arguments:
            return arguments
        rest = {k: v for k, v in arguments.items() if k != "straight_through"}
        return {**rest, "quantise": "mixed" if arguments["straight_through"] else "noise"}

    stride = LATENT_STRIDE  # rows of y: the image's over 16, rounded up

    def __init__(
        self,
        N: int = 128,
        M: int = 192,
        start: str = "random",
        start_lmbda: float = 0.0067,
        quantise: str = "noise",
        rates: int = 1,
        lmbdas: Sequence[float] = LMBDAS,
    ) -> None:
        super().__init__(N, M, start, start_lmbda, quantise, rates, lmbdas)
        self.g_a = OddAnalysis(*self.g_a.children())
        self.g_s = OddSynthesis(*self.g_s.children())
        self.h_a = OddAnalysis(*self.h_a.children())
        self.h_s = OddSynthesis(*self.h_s.children())

    def analyse(self, x: Tensor) -> Tensor:
        return self.g_a(x)

    def synthesise(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        if self.training:
            return self.g_s(y_hat, (height, width))
        return exactly(self.g_s, y_hat, size=(height, width)).float()

    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        scales, means = self.h_s(z_hat, y_tilde.shape[-2:]).chunk(2, dim=1)
        return scales, means

    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        scales, means = exactly(self.h_s, z_hat, size=size)[0].flatten(1).T.chunk(2, dim=1)
        everywhere = torch.arange(scales.shape[0], device=scales.device)
        return code(everywhere, scales, means)
