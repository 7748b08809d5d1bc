"""Integers to bytes and back by range coding over CompressAI's integer tables."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyModel
from torch import Tensor

from lic_train.errors import BitstreamError, ModelError

CHECK_BYTES = 4
PRECISION = 16
"""Bits of a table's probabilities."""
LEAST_BITS = -math.log2(1 - 2.0**-PRECISION)
"""What any symbol costs at least."""
BYPASS = 4
"""Bits at a time in which the coder writes what lies outside a table, as it is."""

FARTHEST = (1 << 27) - (1 << 20)
"""Twice the distance from the table must stay below 2^28; tables are narrower than 2^20."""


class Tables:
    """The tables of one entropy model as the coder wants them: rows cut to their true length."""

    def __init__(self, model: EntropyModel) -> None:
        self.lengths: list[int] = model.cdf_length.tolist()
        self.offsets: list[int] = model.offset.tolist()
        rows = model.quantized_cdf.tolist()
        self.cdfs = [row[:length] for row, length in zip(rows, self.lengths, strict=True)]

    def used_by(self, indexes: np.ndarray) -> tuple[list[int], list[list[int]], list[int], list]:
        """``indexes`` renumbered over the rows they use, and those rows: the coder copies every
        row it is given at every call, which would cost more than the coding."""
        used, renumbered = np.unique(indexes, return_inverse=True)
        return (
            renumbered.reshape(-1).tolist(),
            [self.cdfs[i] for i in used],
            [self.lengths[i] for i in used],
            [self.offsets[i] for i in used],
        )


def encode_symbols(symbols: np.ndarray, indexes: np.ndarray, tables: Tables) -> bytes:
    """Code ``symbols`` (integers, flat) with the table row each index names.

    Raises:
        ModelError: a symbol is so far from its mean that the library's coder would never end: it
            shifts what lies outside a table by 32 bits, which leaves it as it is.
    """
    if symbols.size and max(int(symbols.max()), -int(symbols.min())) >= FARTHEST:
        raise ModelError("a latent is too far from its mean to be coded: the training has diverged")
    if symbols.size == 1:
        # The library keeps room for a word a symbol, and its last state takes two: with a single
        # symbol it writes beyond. A second one follows that nobody decodes.
        symbols, indexes = symbols.repeat(2), indexes.repeat(2)
    encoder = BufferedRansEncoder()
    encoder.encode_with_indexes(symbols.tolist(), *tables.used_by(indexes))
    return encoder.flush()


def table_bits(
    symbols: np.ndarray, indexes: np.ndarray, tables: Tables
) -> tuple[np.ndarray, np.ndarray]:
    """Bits that :func:`encode_symbols` needs for each symbol, and which were outside their table.

    An escape costs its own probability, then its distance in pieces of ``BYPASS`` bits after their
    number, which is written alike.
    """
    bits, escaped = np.empty(symbols.size), np.empty(symbols.size, dtype=bool)
    for row in np.unique(indexes):
        (where,) = np.nonzero(indexes == row)
        last = tables.lengths[row] - 2  # the place of the escape
        places = symbols[where].astype(np.int64) - tables.offsets[row]
        outside = (places < 0) | (places >= last)
        frequencies = np.diff(np.asarray(tables.cdfs[row], dtype=np.int64))
        bits[where] = PRECISION - np.log2(frequencies[np.where(outside, last, places)])
        distance = np.where(places < 0, -2 * places - 1, 2 * (places - last))[outside]
        pieces = -(-np.frexp(distance)[1] // BYPASS)
        bits[where[outside]] += BYPASS * (1 + pieces // (2**BYPASS - 1) + pieces)
        escaped[where] = outside
    return bits, escaped


def refuse_short(chunk: bytes, count: int) -> None:
    """Refuse a chunk that cannot hold so many symbols, before anything is computed for it.

    No symbol of a table has a probability above 1 - 2^-16, so that each takes 2.2e-5 bits; the
    coder's last state, 8 bytes, is left out of account.

    Raises:
        BitstreamError: it is too short.
    """
    if count * LEAST_BITS > 8 * (len(chunk) + 8):
        raise BitstreamError(
            f"{len(chunk)} bytes cannot hold {count} latents: the stream's header is malformed"
        )


class SymbolDecoder:
    """Decodes one chunk of :func:`encode_symbols` piece by piece, in the order it was coded."""

    def __init__(self, chunk: bytes, tables: Tables, count: int) -> None:
        refuse_short(chunk, count)
        # The library reads past the end of a chunk that is too short for `count` symbols: 4 bytes
        # for each and, for an escape whose length is nonsense, up to 15 times the chunk's.
        self._decoder: Any = RansDecoder()
        self._decoder.set_stream(chunk + bytes(64 + 4 * count + 16 * len(chunk)))
        self._tables = tables

    def next(self, indexes: np.ndarray) -> np.ndarray:
        """The next ``indexes.size`` symbols, int32, flat."""
        symbols = self._decoder.decode_stream(*self._tables.used_by(indexes))
        return np.asarray(symbols, dtype=np.int32)


def information(likelihoods: Tensor) -> np.ndarray:
    """``-log2 p`` of every element, flat, float64."""
    return -np.log2(likelihoods.detach().double().flatten().cpu().numpy())


def seal(chunk: bytes, symbols: np.ndarray) -> bytes:
    """Append a checksum of the coded symbols, by which the decoder knows that it agrees."""
    return chunk + _checksum(symbols)


def unseal(chunk: bytes) -> tuple[bytes, bytes]:
    """Split what :func:`seal` made into the coded bytes and the checksum."""
    if len(chunk) < CHECK_BYTES:
        raise BitstreamError("a chunk of the stream is too short: it is malformed")
    return chunk[:-CHECK_BYTES], chunk[-CHECK_BYTES:]


def verify(symbols: np.ndarray, checksum: bytes) -> None:
    """Raise ``BitstreamError`` unless these are the symbols that were coded."""
    if _checksum(symbols) != checksum:
        raise BitstreamError(
            "the decoded latents are not those that were coded: this machine computes other "
            "entropy parameters than the encoder did; please report both versions of torch"
        )


def _checksum(symbols: np.ndarray) -> bytes:
    return zlib.crc32(symbols.astype("<i4").tobytes()).to_bytes(CHECK_BYTES, "little")
