"""A chunk that cannot hold what the header claims is refused before anything is computed for it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from compressai.entropy_models import GaussianConditional
from helpers.zoo import Zoo

from lic_train.codec.bitstream import Bitstream
from lic_train.errors import BitstreamError
from lic_train.modules.entropy.symbols import SymbolDecoder, Tables, encode_symbols, refuse_short


def test_the_cheapest_symbols_there_are_pass() -> None:
    """A million of the likeliest symbol of the narrowest table: no true chunk is refused."""
    model = GaussianConditional([0.11, 0.2])
    model.update()
    for count in (1, 2, 3, 1000, 1_000_000):
        symbols = np.zeros(count, dtype=np.int32)
        chunk = encode_symbols(symbols, np.zeros(count, dtype=np.int64), Tables(model))
        refuse_short(chunk, count)
        indexes = np.zeros(count, dtype=np.int64)
        assert not SymbolDecoder(chunk, Tables(model), count).next(indexes).any()
    with pytest.raises(BitstreamError, match="cannot hold"):
        refuse_short(bytes(62), 1 << 26)


def test_a_few_bytes_that_claim_a_giant_picture_are_refused(zoo: Zoo) -> None:
    codec = zoo.ready("mean_scale")
    stream = codec.compress(zoo.photo(32, 32))
    hostile = Bitstream(stream.chunks, (1, 3, 9000, 9000), stream.rate, stream.fingerprint)
    data, start = hostile.to_bytes(), time.perf_counter()
    with pytest.raises(BitstreamError):
        codec.decompress(Bitstream.from_bytes(data))
    print(f"{len(data)} bytes refused after {time.perf_counter() - start:.2f} s")
    assert torch.isfinite(codec.decompress(stream)).all()
