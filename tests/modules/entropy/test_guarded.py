"""CompressAI's coder, called as its networks call it, cannot be made to read or write beyond."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import google
from compressai.models.base import get_scale_table
from torch import nn

from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.entropy.guarded import Record, guarded

ROW = [[0, 40000, 60000, 65536]]


def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(0)
    model = EntropyBottleneck(4)
    model.update()
    return model


def test_the_guard_writes_what_the_coder_writes() -> None:
    model, z = bottleneck(), 5 * torch.randn(1, 4, 3, 5)
    plain = model.compress(z)
    record = Record()
    with guarded(model, record):
        assert model.compress(z) == plain
    assert record.encoded == z.numel()
    again = Record(most=z.numel())
    with guarded(model, again):
        decoded = model.decompress(plain, (3, 5))
    assert torch.equal(decoded, model.decompress(plain, (3, 5)))
    assert again.checksum == record.checksum and again.decoded == z.numel()


def test_a_single_symbol_goes_through() -> None:
    model = EntropyBottleneck(1)
    model.update()
    for value in range(-12, 13):
        z = torch.full((1, 1, 1, 1), float(value))
        with guarded(model, Record()):
            strings = model.compress(z)
            assert model.decompress(strings, (1, 1)).round() == value


def test_all_is_as_before_afterwards() -> None:
    model = nn.Sequential(bottleneck(), GaussianConditional(get_scale_table().tolist()))
    net = google.JointAutoregressiveHierarchicalPriors(8, 8)
    before = google.RansDecoder, google.BufferedRansEncoder, model[0].entropy_coder
    with pytest.raises(RuntimeError), guarded(net, Record()), guarded(model, Record()):
        assert google.RansDecoder is not before[0]
        assert model[0].entropy_coder is not before[2]
        raise RuntimeError
    assert before == (google.RansDecoder, google.BufferedRansEncoder, model[0].entropy_coder)


def test_more_symbols_than_there_are_is_refused() -> None:
    model, z = bottleneck(), torch.randn(1, 4, 3, 5)
    strings = model.compress(z)
    with guarded(model, Record(most=59)), pytest.raises(BitstreamError, match="more latents"):
        model.decompress(strings, (3, 5))


@pytest.mark.parametrize("chunk", [b"", b"\xff" * 3, b"\xff" * 40], ids=len)
def test_a_chunk_too_short_is_decoded_to_something(chunk: bytes) -> None:
    """Of zeros that follow it; the checksum tells."""
    model = bottleneck()
    with guarded(model, record := Record(most=4 * 5000)):
        model.decompress([chunk], (50, 100))
    assert record.decoded == 4 * 5000


@pytest.mark.parametrize("distance", [1 << 27, -(1 << 30), 1 << 40])
def test_a_latent_too_far_away_is_refused(distance: int) -> None:
    coder = google.BufferedRansEncoder
    net = google.JointAutoregressiveHierarchicalPriors(8, 8)
    with guarded(net, Record()):
        assert google.BufferedRansEncoder is not coder
        with pytest.raises(ModelError, match="too far"):
            google.BufferedRansEncoder().encode_with_indexes([0, distance], [0, 0], ROW, [4], [0])


@pytest.mark.parametrize(
    "tables",
    [
        ([[0, 40000, 40000, 65536]], [4], [0]),
        ([[0, 40000, 60000]], [4], [0]),
        ([[0, 40000, 60000]], [3], [0]),
        ([[1, 40000, 65536]], [3], [0]),
        ([[0, 65536]], [2], [0]),
        ([], [], []),
    ],
    ids=["flat", "short", "unfinished", "from 1", "empty", "none"],
)
def test_tables_that_are_none_are_refused(tables: tuple[list, list, list]) -> None:
    net = google.JointAutoregressiveHierarchicalPriors(8, 8)
    with guarded(net, Record()):
        with pytest.raises(ModelError, match="table"):
            google.BufferedRansEncoder().encode_with_indexes([0, 1], [0, 0], *tables)
        decoder = google.RansDecoder()
        decoder.set_stream(bytes(8))
        with pytest.raises(ModelError, match="table"):
            decoder.decode_stream([0, 0], *tables)
        for index in (-1, 1):
            with pytest.raises(ModelError, match="does not have"):
                decoder.decode_stream(np.array([index]), ROW, [4], [0])
