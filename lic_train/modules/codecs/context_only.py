"""The context-only ablation: no side information, latents predicted from decoded ones alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from compressai.entropy_models import GaussianConditional
from compressai.layers import MaskedConv2d
from torch import Tensor

from lic_train.modules.codecs.base.gaussian import GaussianCodec, start_entropy
from lic_train.modules.codecs.base.transform import LATENT_STRIDE, LMBDAS
from lic_train.modules.entropy.wavefront import CodeStep, wavefront
from lic_train.modules.layers import transforms


class ContextOnly(GaussianCodec):
    """The autoregressive half of Minnen, Ballé, Toderici 2018 (arXiv 1809.02736).

    ::

        x -> g_a -> y -> Q(y - mu) + mu -> y_hat -> context -> EP -> (sigma, mu)
                                           y_hat -> g_s -> x_hat

    There is no z (``z_hat`` has no channels): the stream holds y only. The paper studies this
    alternative; its exact widths are not published, here they are the joint model's without the
    hyper features.

    Args:
        N: channels of the transforms.
        M: channels of y.
        start: "wavelet": the transforms begin as a wavelet packet, see :mod:`.layers.wavelet`;
            "random": as noise.
        start_lmbda: the trade-off that a wavelet start is made for.
        quantise: what stands for rounding in training, see :mod:`.base.quantise`.
        rates: operating points of one training; between them every real rate can be coded.
        lmbdas: with several rates, the trade-off of each, or the first and the last, between which
            they are geometric; ``start_lmbda`` is then the middle.
    """

    stride = LATENT_STRIDE
    num_chunks = 1

    def __init__(
        self,
        N: int = 192,
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
        self.context_prediction = MaskedConv2d(M, 2 * M, kernel_size=5, padding=2)
        self.entropy_parameters = transforms.entropy_parameters(2 * M, M)
        self.gaussian_conditional = GaussianConditional(None)
        start_entropy(
            self.entropy_parameters[-1], self.begin(start, start_lmbda, quantise, rates, lmbdas)
        )

    def side(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return y[:, :0], {}

    def encode_side(self, y: Tensor) -> tuple[Tensor, list[bytes]]:
        return y[:, :0], []

    def decode_side(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        return torch.zeros(1, 0, *size)

    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context_prediction(y_tilde)
        scales, means = self.entropy_parameters(context).chunk(2, dim=1)
        return scales, means

    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        return wavefront(self.context_prediction, self.entropy_parameters, None, size, code)
