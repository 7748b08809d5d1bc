"""ELIC: uneven groups of channels, each a checkerboard, and transforms of residual blocks."""

from __future__ import annotations

from itertools import accumulate

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn

from lic_train.modules.codecs.base.gaussian import GaussianCodec, start_entropy
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.entropy.groups import GroupContext, group_walk, uneven_groups
from lic_train.modules.entropy.wavefront import CodeStep
from lic_train.modules.layers import transforms
from lic_train.modules.layers.residual import residual_analysis, residual_synthesis


class ELIC(GaussianCodec):
    """He, Yang, Peng, Ma, Qin, Wang 2022, "ELIC: Efficient Learned Image Compression with Unevenly
    Grouped Space-Channel Contextual Adaptive Coding" (arXiv 2203.10886).

    ::

        x -> g_a -> y -> h_a -> z -> Q -> z_hat -> h_s ------------+
                    y = (y_1, ..., y_5), each anchors, then the rest:
                    y_1 ... y_{k-1} and the anchors of y_k --------+-> EP_k -> (sigma, mu)
                    y_k -> Q(y_k - mu) + mu -> y_hat -> g_s -> x_hat

    An image takes ten passes whatever its size. In training all contexts are computed at once from
    y_hat as ``quantise`` says. Not reproduced: the paper's training data and schedule, and its
    thumbnail decoder; the hyper nets are those of the mean-scale hyperprior.

    Args:
        N: channels of the transforms and of z.
        M: channels of y, 8 or more.
        groups: channels of each group, which make up M; None: in the paper's shares.
        width: of the nets over earlier groups; the paper's is 224.
        blocks: residual bottlenecks behind each of the first three convolutions; the paper's are 3.
        attention: with the paper's attention blocks.
        start: "wavelet": the transforms begin as a wavelet packet, see :mod:`.layers.wavelet`, and
            their blocks as the identity; "random": as noise.
        start_lmbda: the trade-off that a wavelet start is made for.
        quantise: what stands for rounding in training, see :mod:`.base.quantise`.

    Raises:
        ValueError: the groups do not make up M.
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        groups: list[int] | None = None,
        width: int = 224,
        blocks: int = 3,
        attention: bool = True,
        start: str = "random",
        start_lmbda: float = 0.0067,
        quantise: str = "noise",
    ) -> None:
        super().__init__()
        self.groups = uneven_groups(M) if groups is None else list(groups)
        if sum(self.groups) != M or min(self.groups) < 1:
            raise ValueError(f"groups are {self.groups}: they are above 0 and make up M, {M}")
        self.g_a = residual_analysis(N, M, blocks, attention)
        self.g_s = residual_synthesis(N, M, blocks, attention)
        self.h_a = transforms.hyper_analysis(N, M)
        self.h_s = transforms.hyper_synthesis(N, M)
        self.contexts = nn.ModuleList(
            GroupContext(before, count, 2 * M, width, (2 * M, M * 8 // 5))
            for before, count in zip(accumulate(self.groups, initial=0), self.groups, strict=False)
        )
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        scales = self.begin(start, start_lmbda, quantise)
        if scales is not None:
            for context, own in zip(self.contexts, scales.split(self.groups), strict=True):
                start_entropy(context.parameters_of[-1], own)  # type: ignore[index]

    @property
    def latent_channels(self) -> int:
        return sum(self.groups)

    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        hyper, scales, means = self.h_s(z_hat), [], []
        start = 0
        for context, own in zip(self.contexts, y_tilde.split(self.groups, dim=1), strict=True):
            scale, mean = context(hyper, y_tilde[:, :start], own).chunk(2, dim=1)
            scales.append(scale)
            means.append(mean)
            start += own.shape[1]
        return torch.cat(scales, dim=1), torch.cat(means, dim=1)

    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        contexts = [context for context in self.contexts if isinstance(context, GroupContext)]
        return group_walk(contexts, self.groups, exactly(self.h_s, z_hat), size, code)
