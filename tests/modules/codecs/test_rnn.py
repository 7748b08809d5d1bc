"""The progressive binary codecs: their bits, their two loops, tiles and where these stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.zoo import SHRUNK, Zoo
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import ready_copy
from lic_train.codec.signal import to_uint8
from lic_train.errors import BitstreamError
from lic_train.modules.codecs.base.progressive import ProgressiveCodec
from lic_train.modules.codecs.rnn import RNN
from lic_train.modules.entropy.bits import (
    decode_signs,
    encode_signs,
    pack_numbers,
    pack_signs,
    snap_probabilities,
    unpack_numbers,
    unpack_signs,
)
from lic_train.modules.layers.binarizer import Binarizer
from lic_train.modules.layers.padding import Grid
from lic_train.utils.configs import config_dir

CONVOLUTIONAL, PATCHES = "rnn", ["rnn_fc", "residual_shared", "residual_distinct"]


def small(stem: str, **changes: Any) -> ProgressiveCodec:
    """Fresh weights, shrunk unless told."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", [f"model={stem}"]).model
    torch.manual_seed(0)
    arguments = {"width": SHRUNK["width"], "iterations": SHRUNK["iterations"], **changes}
    return instantiate(config, **arguments)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# --- the binarizer


def test_the_mean_of_the_bits_is_what_was_binarized() -> None:
    torch.manual_seed(0)
    y = torch.tensor([-1.0, -0.6, 0.0, 0.3, 1.0], requires_grad=True)
    draws = Binarizer()(y.expand(20000, 5)).detach()
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(draws.mean(0), y.detach(), atol=0.03)


@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_a_bit_is_the_identity(training: bool) -> None:
    y = torch.tensor([-0.5, 0.0, 0.9], requires_grad=True)
    (Binarizer().train(training)(y) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [1, 2, 3]


def test_a_bit_in_eval_is_the_sign_and_that_of_zero_is_plus() -> None:
    y = torch.tensor([-1e-9, -0.0, 0.0, 1e-9])
    assert Binarizer().eval()(y).tolist() == [-1, 1, 1, 1]


# --- what is sent


def test_the_network_has_the_published_number_of_weights() -> None:
    codec = RNN()
    nets = (codec.encoder, codec.decoder)
    # Those counts are of nets without biases.
    sizes = [sum(p.numel() for p in net.parameters() if p.dim() > 1) for net in nets]
    assert sizes == [17_106_624 + 16_384, 18_333_792] and sum(sizes) == 35_456_800


@pytest.mark.parametrize("stem, size", [(CONVOLUTIONAL, 16), *((stem, 8) for stem in PATCHES)])
def test_a_thumbnail_costs_the_published_bytes(stem: str, size: int) -> None:
    codec = ready_copy(small(stem, iterations=16))
    for rate in (0, 15):
        chunks = codec.compress(images(1), rate).chunks
        assert [len(c) for c in chunks] == [0] + [size] * (rate + 1)
    assert codec.compress(images(1)).chunks == chunks  # eval draws nothing
    for r in codec(images(1)):
        assert list(r.likelihoods) == ["bits"] and r.weight == 1 / 16
        assert r.likelihoods["bits"].numel() == 8 * size
        assert (r.likelihoods["bits"] == 0.5).all()


def test_both_strides_send_as_many_bits_of_as_many_pixels() -> None:
    x = images(1)
    for stride, bits in ((16, 32), (4, 2)):
        codec = ready_copy(small(CONVOLUTIONAL, stride=stride, bits=bits))
        assert [len(chunk) for chunk in codec.compress(x).chunks[1:]] == [16] * codec.num_rates
    with pytest.raises(ValueError, match="stride is 8"):
        RNN(stride=8)


def test_a_chain_of_cells_begins_all_but_linear() -> None:
    """Else it loses how light a picture is among its gates, and training does not find it back."""
    torch.manual_seed(0)
    net = RNN(width=64, stride=4, bits=2).encoder[:-1]
    faint = 0.1 * images(4)
    nothing, once, twice = (net(gain * faint, None)[0] for gain in (0.0, 1.0, 2.0))
    assert (twice - 2 * once + nothing).square().mean() < 1e-2 * (once - nothing).square().mean()


@pytest.mark.parametrize("stem", [CONVOLUTIONAL, *PATCHES])
def test_fewer_iterations_of_the_same_weights_are_a_prefix(stem: str) -> None:
    long = ready_copy(small(stem))
    short = small(stem, iterations=2)
    short.load_state_dict(long.state_dict(), strict=stem != "residual_distinct")
    short = ready_copy(short)
    stream = short.compress(images(1))
    assert long.compress(images(1), 1).chunks == stream.chunks
    prefix = long.cut(long.compress(images(1)), 1)
    assert torch.equal(long.decompress(prefix), short.decompress(stream))


def test_bits_and_numbers_are_packed_and_back() -> None:
    signs = images(1)[0, 0, :3, :5] > 0.5
    signs = torch.where(signs, 1.0, -1.0)
    assert torch.equal(unpack_signs(pack_signs(signs), (3, 5)), signs)
    numbers = torch.tensor([0, 15, 3, 8, 1])
    packed = pack_numbers(numbers, 4)
    assert packed == bytes([0x0F, 0x38, 0x10])
    assert unpack_numbers(packed, 5, 4).tolist() == numbers.tolist()
    for wrong in (b"", packed[:-1], packed + b"\0", packed[:-1] + b"\x11"):
        with pytest.raises(BitstreamError):
            unpack_numbers(wrong, 5, 4)


# --- the loop


@pytest.mark.parametrize("stem", [CONVOLUTIONAL, *PATCHES])
@torch.no_grad()
def test_one_shot_and_additive_are_different_loops(stem: str) -> None:
    x = images()
    shots, sums = (list(small(stem, additive=a).eval().steps(x)) for a in (False, True))
    assert torch.equal(shots[0][1], sums[0][1])  # both begin with the whole image
    assert not torch.equal(shots[1][1], sums[1][1])
    assert torch.equal(shots[1][0], sums[1][0])  # of the same first residual


class Recorder(torch.nn.Module):
    """An encoder that only remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, Any]] = []

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.given.append((x, state))
        return x[:, :1], len(self.given)


class Constant(torch.nn.Module):
    """A decoder that says 0.25 whatever the bits."""

    def forward(self, b: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.full_like(b, 0.25).expand(-1, 3, -1, -1), state


@pytest.mark.parametrize("additive", [False, True])
def test_the_encoder_sees_what_is_still_wrong(additive: bool) -> None:
    recorder, x = Recorder(), images()
    codec = ProgressiveCodec(
        recorder, Constant(), bits=1, stride=1, iterations=3, additive=additive
    )
    for _ in range(2):  # the second image begins as the first did: without state
        list(codec.steps(x))
    scaled = 0.9 * (2 * x - 1)
    gone = [0, 0.25, 0.5] if additive else [0, 0.25, 0.25]
    assert len(recorder.given) == 6
    for i, (residual, state) in enumerate(recorder.given):
        assert torch.allclose(residual, scaled - gone[i % 3], atol=1e-6)
        assert state == (None if i % 3 == 0 else i)


def test_every_image_begins_without_a_memory_of_the_last(zoo: Zoo) -> None:
    codec = zoo.ready(CONVOLUTIONAL)
    before = codec.compress(zoo.photo(32, 32))
    codec.compress(zoo.photo(64, 64, 1))
    assert codec.compress(zoo.photo(32, 32)) == before


# --- tiles


def test_tiles_are_cut_and_joined() -> None:
    x = torch.rand(2, 3, 21, 40)
    grid = Grid.cover(21, 40, stride=8, tile=16)
    tiles = grid.split(x)
    assert tiles.shape == (2 * 2 * 3, 3, 16, 16)
    assert torch.equal(tiles[1], x[0, :, :16, 16:32])
    assert torch.equal(grid.join(tiles, 21, 40), x)
    assert Grid.cover(21, 40, stride=8, tile=None) == (1, 1, 24, 40)
    worse = x.clone()
    worse[1, :, 16:, 32:] += 0.5  # 5 x 8 pixels of the last tile; the padding does not count
    assert torch.allclose(grid.mse(grid.split(worse), x), torch.tensor([0.0] * 11 + [0.25]))


def test_a_tile_is_coded_as_the_image_it_shows(zoo: Zoo) -> None:
    codec, x = zoo.ready_own(CONVOLUTIONAL), zoo.photo(64, 96)
    codec.tile = 32  # type: ignore[assignment]
    tiled, alone = (codec.decompress(codec.compress(part)) for part in (x, x[..., 32:, 64:]))
    assert torch.allclose(tiled[..., 32:, 64:], alone, atol=1e-4)


@pytest.mark.parametrize("tile", [0, 24, -16])
def test_a_tile_that_does_not_fit_is_refused(tile: int) -> None:
    with pytest.raises(ValueError, match="tile"):
        RNN(width=16, tile=tile)


@pytest.mark.parametrize("stem", [CONVOLUTIONAL, *PATCHES])
def test_every_tile_meets_the_target_or_gets_all_iterations(stem: str, zoo: Zoo) -> None:
    plain, codec, x = zoo.ready(stem), zoo.ready_own(stem), zoo.photo(90, 130)
    codec.tile = codec.tile or 32  # type: ignore[assignment]
    everything = codec.compress(x)
    grid = codec._grid(x.shape)  # type: ignore[operator]
    ladder = [codec.decompress(codec.compress(x, rate)) for rate in range(codec.num_rates)]
    errors = torch.stack([_error(grid, decoded, x) for decoded in ladder])
    psnr = -10 * errors[1].median().log10().item()
    codec.target_psnr = psnr  # type: ignore[assignment]
    stream = codec.compress(x)
    counts = 1 + unpack_numbers(stream.chunks[0], errors.shape[1], 2)
    assert 1 < counts.unique().numel()
    met = _error(grid, codec.decompress(Bitstream.from_bytes(stream.to_bytes())), x)
    assert ((met <= 0.1 ** (psnr / 10)) | (counts == codec.num_rates)).all()
    for tile, count in enumerate(counts.tolist()):  # and not one more
        assert (errors[: count - 1, tile] > 0.1 ** (psnr / 10)).all()
        assert met[tile] == errors[count - 1, tile]
    assert len(stream.to_bytes()) < len(everything.to_bytes())
    # The bytes are those that the likelihoods promise, prefixes are files, and any copy of the
    # weights decodes them: where the tiles stop is in the file.
    payload = sum(map(len, stream.chunks))
    assert 8 * payload - 8 * len(stream.chunks) < codec.estimate(x) <= 8 * payload + 0.01
    for rate in range(codec.num_rates):
        cut = codec.cut(stream, rate)
        assert cut == codec.compress(x, rate)
        codec.target_psnr = None  # type: ignore[assignment]
        decoded = codec.decompress(cut)
        codec.target_psnr = psnr  # type: ignore[assignment]
        assert torch.equal(decoded, codec(x)[rate].x_hat.clamp(0, 1))
    assert plain.target_psnr is None


def _error(grid: Grid, decoded: Tensor, x: Tensor) -> Tensor:
    shown = to_uint8(decoded[0])[None].float() / 255
    return grid.mse(grid.split(shown), x)


def test_iterations_that_are_not_there_are_refused() -> None:
    codec = ready_copy(small("rnn_fc", iterations=3, target_psnr=1000.0))
    stream = codec.compress(images(1))
    assert stream.chunks[0] == b"\xaa" * 4  # two bits for each of 16 patches: all get 3
    with pytest.raises(BitstreamError, match="iterations"):
        codec.decompress(replace(stream, chunks=(b"\xff" * 4, *stream.chunks[1:])))


# --- the entropy coder over the bits


def test_signs_under_their_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    for count, spread in ((1, 1.0), (7, 0.0), (128, 2.0), (5000, 0.1), (5000, 3.0)):
        probabilities = snap_probabilities(spread * torch.randn(count, generator=generator))
        signs = torch.where(torch.rand(count, generator=generator) < probabilities, 1.0, -1.0)
        chunk, raw = encode_signs(signs, probabilities), pack_signs(signs)
        ideal = -torch.where(signs > 0, probabilities, 1 - probabilities).log2().sum().item() / 8
        assert len(chunk) <= min(len(raw), 1.001 * ideal + 10)
        assert torch.equal(decode_signs(chunk, probabilities), signs)
        assert torch.equal(decode_signs(raw, probabilities), signs)
        for wrong in (chunk[:-1], chunk + b"\0", chunk[:-1] + bytes([chunk[-1] ^ 4])):
            # Every pattern of raw bits is one of some image.
            if len(chunk) < len(raw) and len(wrong) != len(raw):
                with pytest.raises(BitstreamError):
                    decode_signs(wrong, probabilities)


@pytest.mark.parametrize("stem", [CONVOLUTIONAL, *PATCHES])
def test_a_context_model_saves_bytes_and_changes_nothing_else(stem: str) -> None:
    codec = small(stem, context=8)
    for part in (codec.encoder, codec.decoder):  # as a stage: then training bits are those of eval
        part.requires_grad_(False)
    x = images(1)[..., :1, :1].expand(-1, -1, 70, 100)  # bits repeat, so that they are learnt
    optimizer = torch.optim.Adam(codec.parameters(), 3e-2)
    for _ in range(30):
        rates = [-r.likelihoods["bits"].log2().mean() for r in codec.train()(x)]
        optimizer.zero_grad()
        torch.stack(rates).mean().backward()
        learning = {n for n, p in codec.named_parameters() if p.grad is not None and p.grad.any()}
        assert learning == {n for n, _ in codec.named_parameters() if n.startswith("context")}
        optimizer.step()
    ready = ready_copy(codec)
    stream = ready.compress(x)
    ready.code_bits = False
    raw = ready.compress(x)
    ready.code_bits = True
    sizes = [sum(map(len, s.chunks)) for s in (stream, raw)]
    assert sizes[0] < sizes[1]
    assert torch.equal(ready.decompress(stream), ready.decompress(raw))
    with torch.no_grad():
        assert torch.equal(ready.decompress(stream), ready(x)[-1].x_hat.clamp(0, 1))
    assert 8 * sizes[0] < 1.001 * ready.estimate(x) + 80 * codec.num_rates
    for rate in range(codec.num_rates):
        assert ready.cut(stream, rate) == ready.compress(x, rate)
    middle = raw.chunks[:2] + stream.chunks[2:]  # either form of a chunk is known by its length
    assert torch.equal(ready.decompress(replace(stream, chunks=middle)), ready.decompress(raw))


def test_tiles_that_stop_are_coded_with_a_context_too() -> None:
    codec = ready_copy(small(CONVOLUTIONAL, context=8, tile=16, target_psnr=9.0))
    x = images(1).repeat(1, 1, 2, 2)
    stream = codec.compress(x)
    with torch.no_grad():
        assert torch.equal(codec.decompress(stream), codec(x)[-1].x_hat.clamp(0, 1))
