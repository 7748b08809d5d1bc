"""Integers under a logistic density of any scale, from far below one step to thousands of them.

Tables end at a scale of 32. A wider density is flat over a few integers, so there the low bits of
a symbol are written as they are and only the rest, under a density as much narrower, is coded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import GaussianConditional
from compressai.ops import LowerBound
from torch import Tensor

from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.entropy import accounts
from lic_train.modules.entropy.symbols import (
    FARTHEST,
    SymbolDecoder,
    Tables,
    encode_symbols,
    information,
    table_bits,
)

SCALES_PER_OCTAVE = 8
LOWEST, TABLED, HIGHEST = -5, 5, 24
"""log2 of the smallest scale, of the largest that has a table, and of the largest there is."""
OUTLIER = 15.0
"""Scales from the mean beyond which a latent counts as an outlier; there p is about 1e-7."""
_SCALES = [2 ** (i / SCALES_PER_OCTAVE) for i in range(8 * LOWEST, 8 * TABLED + 1)]


class LogisticConditional(GaussianConditional):
    """CompressAI's conditional entropy model with a logistic density and scales of its own.

    Wavelet-like latents have tails that a Gaussian does not.
    """

    def __init__(self) -> None:
        super().__init__(None, scale_bound=2.0**LOWEST, tail_mass=2.0**-14)
        self.lower_bound_log_scale = LowerBound(LOWEST)

    def _standardized_cumulative(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(inputs)

    @staticmethod
    def _standardized_quantile(quantile: float) -> float:
        return float(np.log(quantile / (1 - quantile)))

    def update_scale_table(self, scale_table: Any, force: bool = False) -> bool:
        """Fix the tables, always of this model's own scales."""
        return bool(super().update_scale_table(_SCALES, force))

    def likelihood(self, distances: Tensor, log_scales: Tensor) -> Tensor:
        """Probability of the unit bin that many steps from the mean, float32, at least 1e-9.

        In training an outlier has its scale widened to where the likelihood still has a gradient,
        which then goes to the predicted scale.
        """
        distances, log_scales = distances.float(), log_scales.float()
        if self.training:
            wide = torch.maximum(log_scales, (distances.abs() / OUTLIER).log2()).detach()
            log_scales = log_scales + (wide - log_scales).detach()
        scales = self.lower_bound_log_scale(log_scales).clamp(max=HIGHEST).exp2()
        p: Tensor = self.likelihood_lower_bound(self._likelihood(distances, scales))
        return p


def table_indexes(log_scales: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Per element, flat: row of the table and number of low bits that are written as they are.

    Args:
        log_scales: log2 of the scales in steps, float64.
    """
    octaves = log_scales.clamp(LOWEST, HIGHEST).nan_to_num(HIGHEST) - LOWEST
    rows = torch.round(octaves * SCALES_PER_OCTAVE).flatten().long().cpu().numpy()
    low_bits = np.maximum(0, -(-(rows - (len(_SCALES) - 1)) // SCALES_PER_OCTAVE))
    return rows - SCALES_PER_OCTAVE * low_bits, low_bits


class LogisticEncoder:
    """Collects symbols piece by piece; :meth:`finish` codes them all."""

    def __init__(self) -> None:
        self._high: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._bits: list[np.ndarray] = []
        self._told: list[tuple[np.ndarray, np.ndarray, Tensor]] = []

    def add(self, symbols: np.ndarray, log_scales: Tensor) -> None:
        """Add ``symbols``, int64, flat, that lie around 0 with these scales."""
        rows, low_bits = table_indexes(log_scales)
        shifted = symbols + (1 << low_bits >> 1)
        high = shifted >> low_bits
        if high.size and max(int(high.max()), -int(high.min())) >= FARTHEST:
            raise ModelError("the step is too small: a latent is too many steps from its mean")
        self._high.append(high)
        self._rows.append(rows)
        self._told.append((symbols, low_bits, log_scales.flatten()))
        places, present = _places(low_bits)
        self._bits.append((shifted[:, None] >> places & 1)[present])

    def finish(
        self, tables: Tables, likelihood: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[bytes, bytes]:
        """The range coder's bytes, and the low bits.

        Args:
            tables, likelihood: of the model; the likelihoods are for the accounts.
        """
        coded = np.concatenate(self._high), np.concatenate(self._rows), tables
        chunk = encode_symbols(*coded)
        low = np.packbits(np.concatenate(self._bits).astype(np.uint8)).tobytes()

        def entry() -> accounts.Entry:
            bits, escaped = table_bits(*coded)
            bits += np.concatenate([low_bits for _, low_bits, _ in self._told])
            priced = [likelihood(torch.from_numpy(s).to(q), q) for s, _, q in self._told]
            estimated = np.concatenate([information(p) for p in priced])
            return accounts.Entry(len(chunk) + len(low), bits, estimated, escaped)

        accounts.add(entry)
        return chunk, low


class LogisticDecoder:
    """Decodes what :class:`LogisticEncoder` coded, piece by piece.

    Args:
        chunk, low_bits: what its ``finish`` returned.
        tables: of the same model.
        count: symbols in all.
    """

    def __init__(self, chunk: bytes, low_bits: bytes, tables: Tables, count: int) -> None:
        self._decoder = SymbolDecoder(chunk, tables, count)
        self._bits = np.unpackbits(np.frombuffer(low_bits, np.uint8)).astype(np.int64)
        self._used = 0

    def next(self, log_scales: Tensor) -> np.ndarray:
        """The next symbols, int64, flat, as many as there are scales."""
        rows, low_bits = table_indexes(log_scales)
        high = self._decoder.next(rows).astype(np.int64)
        places, present = _places(low_bits)
        bits = np.zeros(present.shape, np.int64)
        used = self._used + int(present.sum())
        if used > self._bits.size:
            raise BitstreamError("a chunk of the stream is too short: it is malformed")
        bits[present] = self._bits[self._used : used]
        self._used = used
        low = (bits << places).sum(axis=1)
        symbols: np.ndarray = (high << low_bits) + low - (1 << low_bits >> 1)
        return symbols

    def finish(self) -> None:
        """Raise ``BitstreamError`` unless all low bits were wanted."""
        if -(-self._used // 8) * 8 != self._bits.size:
            raise BitstreamError("a chunk of the stream is too long: it is malformed")


def _places(low_bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bit places ``(most,)``, and which of them each element has, ``(n, most)``."""
    places = np.arange(low_bits.max(initial=0))
    return places, places < low_bits[:, None]
