"""Codecs with one Gaussian per latent: CompressAI's weights and rates, and the wavefront."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from compressai.layers import MaskedConv2d
from compressai.models import (
    CompressionModel,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from helpers.zoo import SHRUNK, Zoo
from torch import Tensor, nn

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import to_uint8
from lic_train.errors import BitstreamError
from lic_train.modules.codecs.base import gaussian
from lic_train.modules.codecs.base.gaussian import GaussianCodec
from lic_train.modules.entropy.exact import MEANS_PER_UNIT, exactly, scale_indexes, snap
from lic_train.modules.entropy.symbols import (
    CHECK_BYTES,
    SymbolDecoder,
    Tables,
    encode_symbols,
    unseal,
)
from lic_train.modules.entropy.wavefront import diagonals, wavefront
from lic_train.modules.layers import transforms
from lic_train.rd import metrics

THEIRS: dict[str, type[CompressionModel]] = {
    "scale_only": ScaleHyperprior,
    "mean_scale": MeanScaleHyperprior,
    "joint_prior": JointAutoregressiveHierarchicalPriors,
}
every_pair = pytest.mark.parametrize("stem", THEIRS)
every_gaussian = pytest.mark.parametrize("stem", [*THEIRS, "context_only"])


def theirs(stem: str, codec: Codec) -> CompressionModel:
    """CompressAI's model with the weights of ours."""
    model = THEIRS[stem](SHRUNK["N"], SHRUNK["M"])
    model.load_state_dict(codec.state_dict(), strict=True)
    return model.eval()


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# --- CompressAI


@every_pair
@pytest.mark.parametrize("tables", [False, True], ids=["no_tables", "tables"])
def test_weights_go_both_ways(stem: str, tables: bool, zoo: Zoo) -> None:
    codec = zoo.ready(stem) if tables else zoo.trained(stem)
    model = theirs(stem, codec)
    assert same(codec, model)
    back = zoo.build(stem)
    assert not same(back, model)
    back.load_state_dict(model.state_dict(), strict=True)
    assert same(back, model)


@every_pair
def test_weights_that_compressai_updated_code_as_ours_do(stem: str, zoo: Zoo) -> None:
    model = theirs(stem, zoo.trained(stem))
    model.update(force=True)
    codec = zoo.build(stem)
    codec.load_state_dict(model.state_dict())
    codec.eval().fix_fingerprint()
    x = zoo.photo(64, 64)
    assert codec.compress(x).chunks == zoo.ready(stem).compress(x).chunks


@torch.no_grad()
def their_bytes(model: CompressionModel, x: Tensor) -> int:
    return sum(len(string) for strings in model.compress(x)["strings"] for string in strings)


def our_bytes(codec: Codec, x: Tensor) -> int:
    return sum(map(len, codec.compress(x).chunks)) - CHECK_BYTES


@every_pair
def test_with_its_means_and_scales_the_bytes_are_compressais(
    stem: str, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaussian, "snap", lambda means: means)
    monkeypatch.setattr(gaussian, "scale_indexes", next_larger)
    codec, x = zoo.ready(stem), zoo.photo(384, 512)
    expected = their_bytes(theirs(stem, codec), x)
    assert expected > 1500
    assert abs(our_bytes(codec, x) - expected) <= 0.001 * expected + 8


def next_larger(scales: Tensor, table: Tensor) -> Tensor:
    """CompressAI's row of the table."""
    return torch.bucketize(scales.contiguous(), table[:-1].to(scales))


@every_pair
def test_snapping_costs_nothing_and_the_image_is_compressais(
    stem: str, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean that is snapped may round a latent the other way. Where latents predict each other
    that leads to other ones: no more bytes on average, but not the same."""
    monkeypatch.setattr(gaussian, "scale_indexes", next_larger)
    codec, model = zoo.ready(stem), theirs(stem, zoo.ready(stem))
    photos = [zoo.photo(384, 512, index) for index in range(3)]
    expected = sum(their_bytes(model, x) for x in photos)
    share = 0.01 if stem == "joint_prior" else 0.001
    written = sum(our_bytes(codec, x) for x in photos)
    assert abs(written - expected) <= share * expected + 3 * 8
    with torch.no_grad():
        x_hat = model.decompress(**model.compress(photos[0]))["x_hat"]
    ours, reference, original = map(
        to_uint8, (codec.decompress(codec.compress(photos[0]))[0], x_hat[0], photos[0][0])
    )
    assert metrics.psnr(ours, reference) > 30
    assert abs(metrics.psnr(ours, original) - metrics.psnr(reference, original)) < 0.05


@every_pair
def test_the_nearest_scale_costs_less_than_the_next_larger(
    stem: str, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = zoo.ready(f"{stem}+random")  # trained for longer: scales that are those of y
    photos = [zoo.photo(384, 512, index) for index in range(3)]
    nearest = sum(our_bytes(codec, x) for x in photos)
    monkeypatch.setattr(gaussian, "scale_indexes", next_larger)
    assert nearest < sum(our_bytes(codec, x) for x in photos)


# --- what is in the file is what is decoded


@every_gaussian
def test_eval_likelihoods_are_of_the_rounded_latents(stem: str, zoo: Zoo) -> None:
    codec, x = zoo.ready(stem), zoo.photo(70, 70)
    with torch.no_grad():
        y = codec.analyse(x)
        y_hat, likelihoods = codec.latents(y)
    assert y_hat.shape == y.shape == likelihoods["y"].shape
    assert (y_hat - y).abs().max() <= 0.5 + 1e-5
    assert y_hat.abs().max() >= 1


def last_bias(codec: Codec) -> Tensor:
    """Of the layer that gives (scales, means): the means are its second half."""
    net = codec.h_s if hasattr(codec, "h_s") else None
    net = getattr(codec, "entropy_parameters", net)
    layers = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    return layers[-1].bias.data


@pytest.mark.parametrize("stem", ["mean_scale", "joint_prior", "context_only"])
@pytest.mark.parametrize("share", ["scales", "means", "one mean by one step"])
def test_a_decoder_that_computes_other_parameters_says_so(stem: str, share: str, zoo: Zoo) -> None:
    """As on a machine whose arithmetic differs; the fingerprint of the weights cannot tell."""
    codec, x = zoo.ready(stem), zoo.photo(128, 128)
    stream = codec.compress(x)
    other = zoo.ready_own(stem)
    bias = last_bias(other)
    scales, means = bias.chunk(2)
    if share == "scales":
        scales += 0.5
    elif share == "means":
        means += 0.1
    else:
        means[3] += 1 / MEANS_PER_UNIT
    other._fingerprint = codec._fingerprint
    with pytest.raises(BitstreamError, match="decoded latents are not those"):
        other.decompress(stream)


def test_other_scales_alone_are_noticed_too(zoo: Zoo) -> None:
    codec, x = zoo.ready("scale_only"), zoo.photo(128, 128)
    other = zoo.ready_own("scale_only")
    last_bias(other).add_(0.5)
    other._fingerprint = codec._fingerprint
    with pytest.raises(BitstreamError, match="decoded latents are not those"):
        other.decompress(codec.compress(x))


@every_gaussian
def test_a_cut_chunk_of_a_sealed_file_is_refused(stem: str, zoo: Zoo) -> None:
    codec, x = zoo.ready(stem), zoo.photo(256, 256)
    stream = codec.compress(x)
    for keep in (0, CHECK_BYTES - 1, CHECK_BYTES, len(stream.chunks[0]) // 2):
        cut = Bitstream(
            (stream.chunks[0][:keep], *stream.chunks[1:]), stream.shape, 0, stream.fingerprint
        )
        with pytest.raises(BitstreamError):
            codec.decompress(Bitstream.from_bytes(cut.to_bytes()))


# --- wavefront

Layers = tuple[MaskedConv2d, nn.Sequential, Tensor | None]


def layers(M: int, size: tuple[int, int], with_hyper: bool, kernel: int = 5) -> Layers:
    torch.manual_seed(0)
    context = MaskedConv2d(M, 2 * M, kernel_size=kernel, padding=kernel // 2)
    hyper = torch.randn(1, 2 * M, *size) if with_hyper else None
    return context, transforms.entropy_parameters((4 if with_hyper else 2) * M, M), hyper


def recording(y_hat: Tensor, seen: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A coder that gives the rows of ``y_hat`` and keeps the parameters it was given."""

    def code(positions: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        seen[positions] = torch.cat((scales, means), dim=1)
        return y_hat[positions]

    return code


def walk(y_hat: Tensor, size: tuple[int, int], parts: Layers) -> Tensor:
    """(scales, means) of every position, ``(h * w, 2M)``, given what is decoded there."""
    context, parameters, hyper = parts
    seen = torch.full((len(y_hat), 2 * y_hat.shape[1]), torch.nan, dtype=torch.float64)
    returned = wavefront(context, parameters, hyper, size, recording(y_hat, seen))
    assert torch.equal(returned, y_hat) and not seen.isnan().any()
    return seen


@pytest.mark.parametrize("size", [(32, 48), (1, 1), (1, 9), (9, 1), (4, 4), (7, 3)], ids=str)
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_every_position_once_and_after_all_it_depends_on(
    size: tuple[int, int], radius: int
) -> None:
    height, width = size
    steps = list(diagonals(height, width, radius))
    assert len(steps) == width + (radius + 1) * (height - 1)
    if (size, radius) == ((32, 48), 2):
        assert len(steps) == 141
    assert sorted(torch.cat(steps).tolist()) == list(range(height * width))
    when = {p: t for t, step in enumerate(steps) for p in step.tolist()}
    for row in range(height):
        for column in range(width):
            needed = [
                (r, c)
                for r in range(max(0, row - radius), row + 1)
                for c in range(max(0, column - radius), min(width, column + radius + 1))
                if (r, c) < (row, column)
            ]
            mine = when[row * width + column]
            assert all(when[r * width + c] < mine for r, c in needed)


@pytest.mark.parametrize("with_hyper", [True, False], ids=["joint", "context_only"])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_parameters_are_those_of_the_plain_networks(with_hyper: bool, kernel: int) -> None:
    M, size = 6, (7, 10)
    parts = layers(M, size, with_hyper, kernel)
    y_hat = 3 * torch.randn(70, M, dtype=torch.float64)
    seen = walk(y_hat, size, parts)
    context, parameters, hyper = (None if p is None else copy.deepcopy(p).double() for p in parts)
    with torch.no_grad():
        features = context(y_hat.T.reshape(1, M, *size))
        if hyper is not None:
            features = torch.cat((hyper, features), dim=1)
        plain = parameters(features)[0].flatten(1).T
    assert plain.std() > 0.01
    assert (seen - plain).abs().max() < 1e-10


@pytest.mark.parametrize("with_hyper", [True, False], ids=["joint", "context_only"])
def test_a_latent_changes_only_what_is_coded_after_it(with_hyper: bool) -> None:
    M, (height, width) = 4, (6, 8)
    parts = layers(M, (height, width), with_hyper)
    y_hat = torch.randn(height * width, M, dtype=torch.float64)
    before = walk(y_hat, (height, width), parts)
    for row, column in ((0, 0), (2, 3), (3, 7), (5, 0), (5, 7)):
        altered = y_hat.clone()
        altered[row * width + column] += 10
        changed = (walk(altered, (height, width), parts) != before).any(dim=1)
        reached = {divmod(i, width) for i in changed.nonzero().flatten().tolist()}
        assert all(c + 3 * r > column + 3 * row for r, c in reached)
        assert all((r, c) > (row, column) for r, c in reached)
        expected = {
            (r, c)
            for r in range(row, min(height, row + 3))
            for c in range(max(0, column - 2), min(width, column + 3))
            if (r, c) > (row, column)
        }
        assert reached == expected


def test_the_joint_models_wavefront_is_its_serial_network(zoo: Zoo) -> None:
    """The same as above, of a trained model on a photograph, through its own ``walk``."""
    codec = zoo.ready("joint_prior")
    assert isinstance(codec, GaussianCodec)
    with torch.no_grad():
        y = codec.analyse(zoo.photo(128, 192))
        z_hat, _ = codec.side(y)
        size = tuple(y.shape[-2:])
        rows = y.double().flatten(2)[0].T
        seen = torch.empty(len(rows), 2 * rows.shape[1], dtype=torch.float64)

        def code(positions: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            seen[positions] = torch.cat((scales, means), dim=1)
            return torch.round(rows[positions] - snap(means)) + snap(means)

        y_hat = codec.walk(z_hat, size, code)
        whole = copy.deepcopy(codec).double()
        plain = whole.predict(z_hat.double(), y_hat.T.reshape(1, -1, *size))
    plain_rows = torch.cat(plain, dim=1)[0].flatten(1).T
    assert (seen - plain_rows).abs().max() < 1e-10
    assert torch.equal(y_hat * MEANS_PER_UNIT, (y_hat * MEANS_PER_UNIT).round())


# --- the exact path


def test_exactly_is_float64_and_leaves_the_module_alone() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True)), torch.randn(1, 2, 5, 5)
    kept = x.clone()
    with torch.autocast("cpu", torch.bfloat16):
        out = exactly(net, x)
    assert out.dtype == torch.float64
    assert torch.equal(out, copy.deepcopy(net).double()(kept.double()))
    assert net[0].weight.dtype == torch.float32 and torch.equal(x, kept)


def test_a_scale_is_coded_with_the_nearest_of_the_table(zoo: Zoo) -> None:
    model = zoo.ready("mean_scale").gaussian_conditional
    table = model.scale_table
    scales = torch.cat((table, table * 1.05, table / 1.05, torch.tensor([-1.0, 0, 1e9]))).double()
    indexes = scale_indexes(scales, table)
    assert indexes[: 3 * len(table)].tolist() == 3 * list(range(len(table)))
    assert indexes[-3:].tolist() == [0, 0, len(table) - 1]
    assert torch.equal(next_larger(scales, table), model.build_indexes(scales.float()).long())


# --- symbols


def some_symbols(tables: Tables, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, len(tables.cdfs), n)
    symbols = np.rint(rng.normal(0, 1 + indexes)).astype(np.int32)
    symbols[::50] = rng.integers(-100_000, 100_000, len(symbols[::50]))  # beyond every table
    return symbols, indexes


def test_renumbered_rows_are_the_rows(zoo: Zoo) -> None:
    tables = Tables(zoo.ready("mean_scale").gaussian_conditional)
    assert len(tables.cdfs) == 64
    for indexes in (np.array([5]), np.array([63, 0, 63, 7, 7]), np.arange(64)[::-1].copy()):
        numbers, cdfs, lengths, offsets = tables.used_by(indexes)
        assert len(cdfs) == len(lengths) == len(offsets) == len(set(indexes.tolist()))
        for number, index in zip(numbers, indexes.tolist(), strict=True):
            assert cdfs[number] == tables.cdfs[index]
            assert lengths[number] == tables.lengths[index] == len(cdfs[number])
            assert offsets[number] == tables.offsets[index]
            assert cdfs[number][0] == 0 and cdfs[number][-1] == 1 << 16


def test_symbols_are_decoded_piece_by_piece_as_at_once(zoo: Zoo) -> None:
    tables = Tables(zoo.ready("mean_scale").gaussian_conditional)
    symbols, indexes = some_symbols(tables)
    chunk = encode_symbols(symbols, indexes, tables)
    assert np.array_equal(SymbolDecoder(chunk, tables, len(symbols)).next(indexes), symbols)
    decoder, pieces, start = SymbolDecoder(chunk, tables, len(symbols)), [], 0
    for size in (1, 2, 0, 7, 100, 390):
        pieces.append(decoder.next(indexes[start : start + size]))
        start += size
    assert start == len(symbols)
    assert np.array_equal(np.concatenate(pieces), symbols)


def test_a_chunk_too_short_for_its_checksum_is_refused() -> None:
    with pytest.raises(BitstreamError, match="too short"):
        unseal(b"abc")
    assert unseal(b"abcdefg") == (b"abc", b"defg")


def test_what_follows_a_chunk_that_ends_early_is_zeros(zoo: Zoo) -> None:
    """The library does not look where a chunk ends: other memory must not be read as the stream,
    which is as long as the header says it is large."""
    tables = Tables(zoo.ready("mean_scale").gaussian_conditional)
    indexes = np.full(4096, 20)
    wanted = SymbolDecoder(bytes(8 * indexes.size), tables, indexes.size).next(indexes)
    assert np.array_equal(SymbolDecoder(b"", tables, indexes.size).next(indexes), wanted)
