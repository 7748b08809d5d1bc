"""The scale hyperprior: zero-mean Gaussians whose scales come from side information."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor

from lic_train.modules.codecs.base.gaussian import GaussianCodec, start_entropy
from lic_train.modules.codecs.base.transform import LMBDAS
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.entropy.wavefront import CodeStep
from lic_train.modules.layers import transforms


class ScaleOnly(GaussianCodec):
    """Ballé, Minnen, Singh, Hwang, Johnston 2018 (arXiv 1802.01436).

    ::

        x -> g_a -> y -> abs -> h_a -> z -> Q -> z_hat -> h_s -> sigma
                    y -> Q -> y_hat -> g_s -> x_hat

    The networks and state-dict keys are those of CompressAI's ``ScaleHyperprior``
    (``bmshj2018-hyperprior``). Not reproduced: the paper's training data and schedule.

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
        super().__init__()
        self.g_a = transforms.analysis(N, M)
        self.g_s = transforms.synthesis(N, M)
        self.h_a = transforms.scale_hyper_analysis(N, M)
        self.h_s = transforms.scale_hyper_synthesis(N, M)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        start_entropy(self.h_s[-2], self.begin(start, start_lmbda, quantise, rates, lmbdas))

    def hyper_analysis(self, y: Tensor) -> Tensor:
        return self.h_a(y.abs())  # the sign of y says nothing about its scale

    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        scales = self.h_s(z_hat)
        return scales, torch.zeros_like(scales)

    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        scales = exactly(self.h_s, z_hat)[0].flatten(1).T
        everywhere = torch.arange(scales.shape[0], device=scales.device)
        return code(everywhere, scales, torch.zeros_like(scales))
