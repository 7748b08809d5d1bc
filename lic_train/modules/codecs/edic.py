"""EDIC: channel attention, a Gaussian-mixture entropy model, decoder-side enhancement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianMixtureConditional
from torch import Tensor, nn

from lic_train.modules.codecs.base.hyperprior import HyperpriorCodec
from lic_train.modules.codecs.base.quantise import straight_through
from lic_train.modules.codecs.base.transform import LMBDAS, float32
from lic_train.modules.entropy import accounts
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.entropy.mixture import (
    REACH,
    Mixture,
    as_coded,
    decode_mixture,
    encode_mixture,
    escape_likelihood,
    fixed_point,
    mixture_bits,
)
from lic_train.modules.entropy.symbols import information, seal, unseal, verify
from lic_train.modules.layers import transforms
from lic_train.modules.layers.attention import ChannelAttention
from lic_train.modules.layers.enhancement import Enhancement
from lic_train.modules.layers.padding import crop_to


class EDIC(HyperpriorCodec):
    """Liu, Lu, Hu, Xu 2020, "A Unified End-to-End Framework for Efficient Deep Image
    Compression" (arXiv 2002.03370).

    ::

        x -> g_a -> [attention] -> y -> h_a -> [attention] -> z -> Q -> z_hat
                                   z_hat -> h_s -> 1x1 net -> (sigma_k, mu_k, w_k)
                                   y -> Q -> y_hat -> g_s -> [enhancement] -> x_hat

    y is rounded as it is (a mixture has no one mean) and every element is coded under its own
    mixture; nothing is autoregressive. The authors never released these three modules: layer
    widths of the hyper nets, attention and enhancement follow the one explicit re-implementation
    known, K and the places of attention are not published. Not reproduced: the training data and
    the staged schedule.

    Args:
        N: channels of the transforms.
        M: channels of y, z and the hyper nets.
        gmm_k: components of the mixture; 1 is a single Gaussian.
        attention_on: which latents get channel attention; "" is none.
        enhancement_channels: width of the enhancement net; 0 is none.
        enhancement_blocks: its depth.
        hyper_input: "signed" feeds y to h_a, "abs" its magnitude.
        channels: of the signal; with 2 it codes motion fields. Enhancement wants 3.
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
        gmm_k: int = 2,
        attention_on: Literal["yz", "y", "z", ""] = "yz",
        enhancement_channels: int = 32,
        enhancement_blocks: int = 3,
        hyper_input: Literal["signed", "abs"] = "signed",
        channels: int = 3,
        start: str = "random",
        start_lmbda: float = 0.0067,
        quantise: str = "noise",
        rates: int = 1,
        lmbdas: Sequence[float] = LMBDAS,
    ) -> None:
        super().__init__()
        if gmm_k < 1:
            raise ValueError(f"gmm_k is {gmm_k}, a mixture has at least 1 component")
        if attention_on not in ("yz", "y", "z", ""):
            raise ValueError(f"attention_on is {attention_on!r}, not one of 'yz', 'y', 'z', ''")
        if hyper_input not in ("signed", "abs"):
            raise ValueError(f"hyper_input is {hyper_input!r}, not 'signed' or 'abs'")
        if enhancement_channels and channels != 3:
            raise ValueError(f"enhancement is for images: {channels} channels want none of it")
        self.gmm_k = gmm_k
        self.channels = channels
        self.hyper_input = hyper_input
        self.g_a = transforms.analysis(N, M, channels)
        self.attention_y = ChannelAttention(M) if "y" in attention_on else nn.Identity()
        self.h_a = transforms.mixture_hyper_analysis(M)
        self.attention_z = ChannelAttention(M) if "z" in attention_on else nn.Identity()
        self.entropy_bottleneck = EntropyBottleneck(M)
        self.h_s = transforms.hyper_synthesis(M, M)
        self.entropy_parameters = transforms.mixture_parameters(M, gmm_k)
        self.gaussian_conditional = GaussianMixtureConditional(gmm_k)
        self.g_s = transforms.synthesis(N, M, channels)
        self.enhancement = (
            Enhancement(enhancement_channels, enhancement_blocks)
            if enhancement_channels
            else nn.Identity()
        )
        scales = self.begin(start, start_lmbda, quantise, rates, lmbdas)
        if scales is not None:
            self._start_entropy(scales)

    @torch.no_grad()
    def _start_entropy(self, scales: Tensor) -> None:
        """Let the mixtures begin at these scales ``(M,)`` around zero: what h_s ends in is handed
        through the 1x1 layers, the last of which has no bias; the first component is as wide as
        it says, the others 0.4 times as wide."""
        h_s: Any = self.h_s
        last = h_s[-1]
        last.bias.zero_()
        last.bias[: len(scales)] = scales
        layers: Any = self.entropy_parameters
        first, _, middle, _, parameters = layers
        M = len(scales)
        through = torch.eye(M)
        for layer in (first, middle):
            layer.weight[:M] *= 0.1
            layer.weight[:M, :M, 0, 0] = through
            layer.bias[:M] = 0
        for k in range(self.gmm_k):
            rows = slice(k * M, (k + 1) * M)
            parameters.weight[rows] *= 0.1
            parameters.weight[rows, :M, 0, 0] = through if k == 0 else 0.4 * through

    def analyse(self, x: Tensor) -> Tensor:
        return self.attention_y(super().analyse(x))

    def hyper_analysis(self, y: Tensor) -> Tensor:
        return self.attention_z(self.h_a(y.abs() if self.hyper_input == "abs" else y))

    def synthesise(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        return crop_to(self.enhancement(self.g_s(y_hat)), height, width)

    def latents(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z_hat, likelihoods = self.side(y)
        scales, means, logits = self.entropy_parameters(self.h_s(z_hat)).chunk(3, dim=1)
        with float32(y):
            likelihoods["y"], y_hat = self._likelihood(y.float(), scales, means, logits)
        # In memory as the decoder has it: another layout may give x_hat another last bit.
        return y_hat if self.training else y_hat.contiguous(), likelihoods

    def _likelihood(
        self, y: Tensor, scales: Tensor, means: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Likelihoods of y and the y_hat they are of: noisy in training, rounded in eval."""
        by_component = logits.float().unflatten(1, (self.gmm_k, -1))
        weights = by_component.softmax(dim=1).flatten(1, 2)
        model: Any = self.gaussian_conditional
        scales, means = scales.float(), means.float()
        if self.training and self.quantise == "ste":
            y_tilde = straight_through(y)
        else:
            y_tilde = model.quantize(y, "noise" if self.training else "dequantize")
        y_hat = straight_through(y) if self.training and self.quantise == "mixed" else y_tilde
        likelihood = model._likelihood(y_tilde, scales, means, weights)
        components = [p.unflatten(1, (self.gmm_k, -1)) for p in (scales, means, weights)]
        if not self.training:
            parts = (p.transpose(0, 1) for p in components)
            return as_coded(likelihood, y_hat, *parts), y_hat
        # The coder has an escape where the mixture has underflown; its likelihood has a gradient
        # there too, which the mixture's has not.
        reaches = REACH * model.lower_bound_scale(components[0])
        beyond = ((y_tilde[:, None] - components[1]).abs() - reaches).amin(dim=1).clamp(min=0)
        likelihood = torch.maximum(likelihood, escape_likelihood(beyond))
        return model.likelihood_lower_bound(likelihood), y_hat

    def encode_latents(self, y: Tensor) -> list[bytes]:
        z_hat, chunks = self.encode_side(y)
        symbols = torch.round(y.float()).long().flatten().cpu().numpy()
        mixture = self._mixture(z_hat)
        chunk = encode_mixture(symbols, mixture)

        def entry() -> accounts.Entry:
            bits, escaped = mixture_bits(symbols, mixture)
            return accounts.Entry(len(chunk), bits, information(self.latents(y)[1]["y"]), escaped)

        accounts.add(entry)
        return [seal(chunk, symbols), *chunks]

    def decode_latents(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        chunk, checksum = unseal(chunks[0])
        z_hat = self.decode_side(chunks[1:], size)
        symbols = decode_mixture(chunk, self._mixture(z_hat))
        verify(symbols, checksum)
        return torch.from_numpy(symbols).to(z_hat).reshape(1, -1, *size)

    def _mixture(self, z_hat: Tensor) -> Mixture:
        """Integer mixture parameters of one image, elements in the order of a flattened y."""
        features = exactly(self.entropy_parameters, exactly(self.h_s, z_hat))
        scales, means, logits = (
            part.reshape(self.gmm_k, -1) for part in features[0].chunk(3, dim=0)
        )
        parameters = (logits.softmax(dim=0), means, scales)
        return fixed_point(*(np.ascontiguousarray(p.T.cpu().numpy()) for p in parameters))
