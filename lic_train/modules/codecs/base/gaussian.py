"""Latents under one Gaussian per element, whatever predicts it: hyperprior, context or both."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import GaussianConditional
from torch import Tensor

from lic_train.modules.codecs.base.hyperprior import HyperpriorCodec
from lic_train.modules.codecs.base.quantise import straight_through
from lic_train.modules.codecs.base.transform import float32
from lic_train.modules.entropy import accounts
from lic_train.modules.entropy.escapes import gaussian_as_coded
from lic_train.modules.entropy.exact import MEANS_PER_UNIT, scale_indexes, snap
from lic_train.modules.entropy.symbols import (
    SymbolDecoder,
    Tables,
    encode_symbols,
    information,
    refuse_short,
    seal,
    table_bits,
    unseal,
    verify,
)
from lic_train.modules.entropy.wavefront import CodeStep, Where


class GaussianCodec(HyperpriorCodec):
    """y_hat = mu + round(y - mu), coded under N(mu, sigma) integrated over unit bins.

    A subclass says how (sigma, mu) are predicted: in training all at once by :meth:`predict`, in
    coding step by step by :meth:`walk`. Encoding, decoding and the eval-mode ``forward`` are then
    the same walk with another ``code``, so they cannot disagree.
    """

    gaussian_conditional: GaussianConditional

    @property
    def latent_channels(self) -> int:
        """M, the channels of y."""
        first: Any = self.g_s[0]  # type: ignore[index]
        return int(first.in_channels)

    @abstractmethod
    def predict(self, z_hat: Tensor, y_tilde: Tensor) -> tuple[Tensor, Tensor]:
        """(scales, means), each like y, from z_hat and, where there is a context model, y."""

    @abstractmethod
    def walk(self, z_hat: Tensor, size: tuple[int, int], code: CodeStep) -> Tensor:
        """Visit every position of one image in coding order; y_hat ``(h * w, M)``, float64."""

    def latents(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            return self._noisy(y)
        coded = [self._rounded(image) for image in y.split(1)]
        y_hat = torch.cat([y_hat for y_hat, _ in coded])
        names = coded[0][1].keys()
        return y_hat, {n: torch.cat([likelihoods[n] for _, likelihoods in coded]) for n in names}

    def _noisy(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z_hat, likelihoods = self.side(y)
        with float32(y):
            y = y.float()
            ste = self.quantise == "ste"
            y_tilde = straight_through(y) if ste else self.gaussian_conditional.quantize(y, "noise")
        scales, means = self.predict(z_hat, y_tilde)
        with float32(y):
            scales, means = scales.float(), means.float()
            y_hat = y_tilde if self.quantise == "noise" else straight_through(y, means)
            likelihoods["y"] = self._likelihood(y_hat if ste else y_tilde, scales, means)
            return y_hat, likelihoods

    def _rounded(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the file of one image holds, and its likelihoods under the unrounded scales."""
        z_hat, likelihoods = self.side(y)
        rows = _rows(y)
        likelihood = torch.empty_like(rows, dtype=torch.float32)

        def code(positions: Where, scales: Tensor, means: Tensor) -> Tensor:
            means = snap(means)
            y_hat = torch.round(rows[positions] - means) + means
            likelihood[positions] = self._likelihood(y_hat.float(), scales.float(), means.float())
            return y_hat

        y_hat = self.walk(z_hat, (y.shape[-2], y.shape[-1]), code)
        likelihoods["y"] = _image(likelihood, y.shape[-2:])
        return _image(y_hat, y.shape[-2:]).float(), likelihoods

    def encode_latents(self, y: Tensor) -> list[bytes]:
        z_hat, chunks = self.encode_side(y)
        rows = _rows(y)
        symbols: list[np.ndarray] = []
        indexes: list[np.ndarray] = []
        priced: list[tuple[Tensor, ...]] = []

        def code(positions: Where, scales: Tensor, means: Tensor) -> Tensor:
            means = snap(means)
            rounded = torch.round(rows[positions] - means)
            symbols.append(_flat(rounded))
            indexes.append(_flat(scale_indexes(scales, self.gaussian_conditional.scale_table)))
            priced.append((rounded + means, scales, means))
            return rounded + means

        y_hat = self.walk(z_hat, (y.shape[-2], y.shape[-1]), code)
        tables = Tables(self.gaussian_conditional)
        coded = np.concatenate(symbols), np.concatenate(indexes), tables
        chunk = encode_symbols(*coded)

        def entry() -> accounts.Entry:
            likelihoods = [self._likelihood(*(t.float() for t in step)) for step in priced]
            estimated = np.concatenate([information(p) for p in likelihoods])
            bits, escaped = table_bits(*coded)
            return accounts.Entry(len(chunk), bits, estimated, escaped)

        accounts.add(entry)
        return [seal(chunk, _steps(y_hat)), *chunks]

    def decode_latents(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        chunk, checksum = unseal(chunks[0])
        count = size[0] * size[1] * self.latent_channels
        refuse_short(chunk, count)
        z_hat = self.decode_side(chunks[1:], size)
        decoder = SymbolDecoder(chunk, Tables(self.gaussian_conditional), count)

        def code(positions: Where, scales: Tensor, means: Tensor) -> Tensor:
            means = snap(means)
            step = decoder.next(_flat(scale_indexes(scales, self.gaussian_conditional.scale_table)))
            return torch.from_numpy(step).to(means).reshape(means.shape) + means

        y_hat = self.walk(z_hat, size, code)
        verify(_steps(y_hat), checksum)
        return _image(y_hat, size).float()

    def _likelihood(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        model: Any = self.gaussian_conditional
        likelihood = model.likelihood_lower_bound(model._likelihood(y, scales, means))
        return likelihood if self.training else gaussian_as_coded(likelihood, y, scales, means)


@torch.no_grad()
def start_entropy(last: Any, scales: Tensor | None) -> None:
    """Let the layer that ends in (scales, means) begin with these scales ``(M,)``, its means at
    zero; None changes nothing."""
    if scales is not None:
        last.bias.zero_()
        last.bias[: len(scales)] = scales


def _rows(y: Tensor) -> Tensor:
    """``(1, M, h, w)`` to ``(h * w, M)`` in raster order, float64."""
    return y.double().flatten(2)[0].T.contiguous()


def _image(rows: Tensor, size: Any) -> Tensor:
    """The inverse of :func:`_rows`, of any type."""
    return rows.T.reshape(1, rows.shape[1], *size)


def _steps(y_hat: Tensor) -> np.ndarray:
    """y_hat in whole steps of its means: equal symbols around other means are other latents."""
    return torch.round(y_hat * MEANS_PER_UNIT).long().cpu().numpy()


def _flat(values: Tensor) -> np.ndarray:
    return values.flatten().to(torch.int32).cpu().numpy()
