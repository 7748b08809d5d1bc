"""Integers to bytes and back by range coding over CompressAI's integer tables."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyModel

from lic_train.errors import BitstreamError

CHECK_BYTES = 4


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
    """Code ``symbols`` (integers, flat) with the table row each index names."""
    encoder = BufferedRansEncoder()
    encoder.encode_with_indexes(symbols.tolist(), *tables.used_by(indexes))
    return encoder.flush()


class SymbolDecoder:
    """Decodes one chunk of :func:`encode_symbols` piece by piece, in the order it was coded."""

    def __init__(self, chunk: bytes, tables: Tables, count: int) -> None:
        # The library reads past the end of a chunk that is too short for `count` symbols: 4 bytes
        # for each and, for an escape whose length is nonsense, up to 15 times the chunk's.
        self._decoder: Any = RansDecoder()
        self._decoder.set_stream(chunk + bytes(64 + 4 * count + 16 * len(chunk)))
        self._tables = tables

    def next(self, indexes: np.ndarray) -> np.ndarray:
        """The next ``indexes.size`` symbols, int32, flat."""
        symbols = self._decoder.decode_stream(*self._tables.used_by(indexes))
        return np.asarray(symbols, dtype=np.int32)


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
