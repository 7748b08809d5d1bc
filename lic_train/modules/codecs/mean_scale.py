"""The mean-scale hyperprior: mean and scale of every latent from side information alone."""

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


class MeanScale(GaussianCodec):
    """Minnen, Ballé, Toderici 2018 (arXiv 1809.02736) without the context model.

    ::

        x -> g_a -> y -> h_a -> z -> Q -> z_hat -> h_s -> (sigma, mu)
                    y -> Q(y - mu) + mu -> y_hat -> g_s -> x_hat

    The networks and state-dict keys are those of CompressAI's ``MeanScaleHyperprior``
    (``mbt2018-mean``). Not reproduced: the paper's own training data and schedule length.

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
        self.h_a = transforms.hyper_analysis(N, M)
        self.h_s = transforms.hyper_synthesis(N, M)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        start_entropy(self.h_s[-1], self.begin(start, start_lmbda, quantise, rates, lmbdas))

    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        scales, means = self.h_s(z_hat).chunk(2, dim=1)
        return scales, means

    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        scales, means = exactly(self.h_s, z_hat)[0].flatten(1).T.chunk(2, dim=1)
        everywhere = torch.arange(scales.shape[0], device=scales.device)
        return code(everywhere, scales, means)
