"""CompressAI's range coder under guard, for networks that call it themselves.

The coder is written in C++ and trusts what it is given. It writes beyond its buffer for a single
symbol, never ends for one that is far from its table, and reads past the end of a chunk that is too
short. While :func:`guarded` is entered, a network's calls pass through here instead: tables,
indexes, symbols and lengths are checked, and a checksum of the symbols is kept.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from compressai.ans import BufferedRansEncoder, RansDecoder, RansEncoder
from torch import nn

from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.entropy.symbols import CHECK_BYTES, FARTHEST, PRECISION

_LOCK = threading.RLock()
Rows = Sequence[Sequence[int]]


class Record:
    """What has passed through the coder.

    Args:
        most: symbols that may be decoded at most; None while a signal is encoded.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.encoded = self.decoded = self._crc = 0
        self._rows: dict[int, tuple[Any, dict[int, list[int]]]] = {}

    @property
    def checksum(self) -> bytes:
        """Of the symbols that were encoded or, where ``most`` is given, decoded, in order."""
        return self._crc.to_bytes(CHECK_BYTES, "little")

    def count(self, symbols: np.ndarray, decoded: bool) -> None:
        """Add symbols to the record; while encoding, what is decoded again is left out."""
        if decoded:
            self.decoded += symbols.size
        else:
            self.encoded += symbols.size
        if decoded == (self.most is not None):
            self._crc = zlib.crc32(symbols.astype("<i4").tobytes(), self._crc)

    def refuse_more(self, count: int) -> None:
        """Refuse to decode more symbols than the signal has.

        Raises:
            BitstreamError: they would be more.
        """
        if self.most is not None and self.decoded + count > self.most:
            raise BitstreamError("the stream holds more latents than its image has: malformed")

    def used(
        self, indexes: Sequence[int], cdfs: Rows, lengths: Sequence[int], offsets: Sequence[int]
    ) -> tuple[list[int], list[list[int]], list[int], list[int]]:
        """Indexes renumbered over the tables they use, and those tables, each checked once.

        Raises:
            ModelError: an index names no table, or a table is none.
        """
        numbers, renumbered = np.unique(np.asarray(indexes, np.int64), return_inverse=True)
        if numbers.size and not (0 <= numbers[0] and numbers[-1] < min(len(cdfs), len(lengths))):
            raise ModelError("the network asks for a coder table that it does not have")
        # The list is kept beside its id, which another list could have once it is gone.
        _, known = self._rows.setdefault(id(cdfs), (cdfs, {}))
        for i in numbers.tolist():
            if i not in known:
                known[i] = _checked(cdfs[i], lengths[i])
        return (
            renumbered.reshape(-1).tolist(),
            [known[i] for i in numbers.tolist()],
            [lengths[i] for i in numbers.tolist()],
            [offsets[i] for i in numbers.tolist()],
        )


def _checked(row: Sequence[int], length: int) -> list[int]:
    cut = np.asarray(row[:length], np.int64)
    whole = 3 <= length <= len(row) and cut[0] == 0 and cut[-1] == 1 << PRECISION
    if not whole or bool((np.diff(cut) <= 0).any()):
        raise ModelError("the network codes with a table that does not rise from 0 to 2^16")
    return cut.tolist()


class _BufferedEncoder:
    """In place of ``BufferedRansEncoder``."""

    def __init__(self, record: Record) -> None:
        self._record, self._coder = record, BufferedRansEncoder()
        self._last: tuple[list[Any], ...] = ()
        self._count = 0

    def encode_with_indexes(self, symbols: Any, indexes: Any, *tables: Any) -> None:
        values = np.asarray(symbols, np.int64).reshape(-1)
        if values.size and int(np.abs(values).max()) >= FARTHEST:
            raise ModelError(
                "a latent is too far from its mean to be coded: the training has diverged"
            )
        if values.size != len(indexes):
            raise ModelError("the network codes with other numbers of symbols and of tables")
        self._record.count(values, decoded=False)
        self._last = (values.tolist(), *self._record.used(indexes, *tables))
        self._count += values.size
        self._coder.encode_with_indexes(*self._last)

    def flush(self) -> bytes:
        if self._count == 1:  # see the head of the file: a second one follows that nobody decodes
            self._coder.encode_with_indexes(*self._last)
        return bytes(self._coder.flush())


class _Encoder:
    """In place of ``RansEncoder``."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def encode_with_indexes(self, *arguments: Any) -> bytes:
        coder = _BufferedEncoder(self._record)
        coder.encode_with_indexes(*arguments)
        return coder.flush()


class _Decoder:
    """In place of ``RansDecoder``."""

    def __init__(self, record: Record) -> None:
        self._record, self._coder = record, RansDecoder()

    def set_stream(self, chunk: bytes) -> None:
        # While encoding, networks decode what they have just written: whole, and never in pieces.
        most = self._record.most or 0
        self._coder.set_stream(chunk + bytes(64 + 4 * most + 16 * len(chunk)))

    def decode_stream(self, indexes: Any, *tables: Any) -> list[int]:
        indexes = np.asarray(indexes).reshape(-1).tolist()
        self._record.refuse_more(len(indexes))
        values = self._coder.decode_stream(*self._record.used(indexes, *tables))
        self._record.count(np.asarray(values, np.int64), decoded=True)
        return list(values)

    def decode_with_indexes(self, chunk: bytes, indexes: Any, *tables: Any) -> list[int]:
        self._coder.set_stream(chunk + bytes(64 + 4 * len(indexes) + 16 * len(chunk)))
        return self.decode_stream(indexes, *tables)


class _Coder:
    """In place of the coder that an entropy model holds."""

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self._encoder, self._decoder = _Encoder(record), _Decoder(record)
        self.encode_with_indexes = self._encoder.encode_with_indexes
        self.decode_with_indexes = self._decoder.decode_with_indexes


@contextmanager
def guarded(net: nn.Module, record: Record) -> Iterator[None]:
    """While this is entered, whatever ``net`` codes passes the guard and ``record`` counts it.

    The guard stands where the network finds its coder: in its entropy models, and under the
    coder's names in the modules that define its classes.
    """
    makers = {
        RansEncoder: lambda: _Encoder(record),
        BufferedRansEncoder: lambda: _BufferedEncoder(record),
        RansDecoder: lambda: _Decoder(record),
    }
    with _LOCK:
        models: list[Any] = [m for m in net.modules() if hasattr(m, "entropy_coder")]
        coders: list[Any] = [m.entropy_coder for m in models]
        homes = {base.__module__ for m in net.modules() for base in type(m).__mro__}
        names = [
            (vars(sys.modules[home]), name, value)
            for home in homes
            if home in sys.modules and not home.startswith(("torch.", "builtins"))
            for name, value in vars(sys.modules[home]).items()
            if isinstance(value, type) and value in makers
        ]
        try:
            for model, coder in zip(models, coders, strict=True):
                model.entropy_coder = _Coder(coder.name, record)
            for home, name, value in names:
                home[name] = makers[value]
            yield
        finally:
            for model, coder in zip(models, coders, strict=True):
                model.entropy_coder = coder
            for home, name, value in names:
                home[name] = value
