"""The laws of every codec: each is one test, over every conf/model/*.yaml, found by glob."""

from __future__ import annotations

import copy
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compressai.entropy_models import EntropyModel
from helpers.models import CURVES, DEFAULT, DEFAULT_CURVES, MODELS, SLOW, every_model
from helpers.zoo import REPOSITORY, Zoo
from torch import Tensor
from torch.nn.functional import interpolate

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.contract import Shape
from lic_train.codec.export import load_codec, ready_copy, save_codec
from lic_train.codec.signal import to_uint8
from lic_train.errors import BitstreamError, ModelError
from lic_train.rd import metrics
from lic_train.training.loss import RateDistortionLoss

# Header 32 bytes, checksum of the latents 4, and what two range coders flush, 8 each.
OVERHEAD_BITS = 8 * (32 + 4 + 2 * 8)
# Scales are rounded up to one of 64, by 6 % on average, which costs nothing in the mean where the
# densities fit; after a training of seconds they are still too wide.
TABLE_BITS_PER_LATENT = 0.03
# Codecs that say so take the next larger scale, as CompressAI does: 1 % more in the mean.
SHARE, SHARE_OF_FOREIGN = 0.01, 0.02
# The coder's probabilities are at least 2^-16; the likelihoods' bound is 1e-9, 30 bits.
CODER_BITS = 16
# Latents are the same on every machine (float64 and snapped); the synthesis from them is float32,
# whose last bit depends on the number of threads. Where it decides how a sample is rounded to 8
# bits (one in millions), that sample is one level off. It must lie within 0.001 levels of such a
# boundary.
SAMPLES_ONE_OFF = 1e-5
BOUNDARY = 1e-3
# Threads that wait for each other should sleep: the tests may have to share two cores.
TWO_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def reconstruct(codec: Codec, x: Tensor) -> Tensor:
    """What eval-mode ``forward`` says the finest file decodes to."""
    return codec.reconstruct(x).clamp(0, 1)


def assert_same_image(pixels: Tensor, x: Tensor) -> None:
    """8-bit pixels of a process with another number of threads, and the floats they are of here."""
    here = to_uint8(x)
    assert pixels.shape == here.shape and pixels.dtype == torch.uint8
    away = (pixels.int() - here.int()).abs()
    assert away.max() <= 1 and (away > 0).sum() <= SAMPLES_ONE_OFF * away.numel()
    # And only where the last bits decide: at the boundary between two levels.
    fractions = (255 * x.double().clamp(0, 1))[away > 0] % 1
    assert (fractions - 0.5).abs().max() < BOUNDARY if fractions.numel() else True


def through_a_file(codec: Codec, x: Tensor, rate: int = -1) -> Tensor:
    return codec.decompress(Bitstream.from_bytes(codec.compress(x, rate).to_bytes()))


def test_there_are_models() -> None:
    assert {"edic", "joint_prior"} <= set(MODELS)


@every_model
def test_the_tests_below_code_something(stem: str, zoo: Zoo) -> None:
    """Latents that are all zero, or a codec that learnt nothing, would obey most laws."""
    x = zoo.signal(stem)
    codec = zoo.ready(stem)
    # The finest rate of a ladder may be near lossless: its coarsest has to be small.
    assert len(codec.compress(x, 0).to_bytes()) < x.numel() / 20
    assert len(codec.compress(x).to_bytes()) > 1000
    assert metrics.psnr(*map(to_uint8, (reconstruct(codec, x)[0], x[0]))) > 13
    likelihoods = [p for r in codec(x) for p in r.likelihoods.values()]
    costly = sum(int((p <= 0.5).sum()) for p in likelihoods)  # a bit at least
    assert costly > 0.05 * sum(p.numel() for p in likelihoods)


# --- 1: gradients


@every_model
def test_gradients_reach_every_parameter_and_only_their_own(stem: str, zoo: Zoo) -> None:
    """Over several first weights: that the only ReLU of a layer this narrow is dead is bad luck."""
    reached = set()
    for seed in range(6):
        codec = zoo.train(zoo.build(stem, seed), steps=3)  # what starts at zero has left it
        names = dict(codec.named_parameters())
        quantiles = {name for name in names if name.endswith(".quantiles")}
        RateDistortionLoss(0.01)(codec(zoo.batch(dims=codec.signal_dims))).loss.backward()
        reached |= _reached(codec, set(names) - quantiles)
        codec.zero_grad()
        if quantiles:
            codec.aux_loss().backward()
            reached |= _reached(codec, quantiles)
        if reached == set(names):
            return
    assert set(names) - reached == set()


def _reached(codec: Codec, expected: set[str]) -> set[str]:
    """Those of the expected parameters that the last backward pass trains, and it no others."""
    reached = set()
    for name, p in codec.named_parameters():
        if name in expected:
            assert p.grad is not None and p.grad.isfinite().all(), name
            if p.grad.any():
                reached.add(name)
        else:
            assert p.grad is None or not p.grad.any(), f"{name} is of the other loss"
    return reached


@every_model
def test_likelihoods_are_float32_under_autocast(stem: str, zoo: Zoo) -> None:
    codec = zoo.trained(stem)
    with torch.autocast("cpu", torch.bfloat16):
        reconstructions = codec(zoo.batch(dims=codec.signal_dims))
    for r in reconstructions:
        assert r.x_hat.shape == r.target.shape
        for p in r.likelihoods.values():
            assert p.dtype == torch.float32
            assert 0 < p.min() and p.max() <= 1
    RateDistortionLoss(0.01)(reconstructions).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in codec.parameters())


# --- 2, 3, 4: files


@every_model
def test_a_file_decodes_to_the_reconstruction_exactly(stem: str, zoo: Zoo) -> None:
    x = zoo.signal(stem, 192, 128)
    codec = zoo.ready(stem)
    assert torch.equal(through_a_file(codec, x), reconstruct(codec, x))


@every_model
def test_bytes_are_what_the_likelihoods_promise(stem: str, zoo: Zoo) -> None:
    """Within the shares and the constants above; below, a symbol that the estimate counts with more
    bits than the coder ever needs is counted with the coder's."""
    codec = zoo.ready(stem)
    written = estimate = floor = slack = 0.0
    for index in range(3):
        x = zoo.signal(stem, 400, 512, index)
        written += 8 * len(codec.compress(x).to_bytes())
        estimate += codec.estimate(x)
        # A file holds as many coded parts as there are latents y; where nothing is called so, as
        # there are reconstructions with a cost of their own.
        with torch.no_grad():
            parts = codec(x)
        for r in parts:
            ys = sum(name.split("_")[-1] == "y" for name in r.likelihoods)
            slack += OVERHEAD_BITS * max(ys, bool(r.likelihoods))
        if codec.num_rates > 1 and codec.chunks_at(codec.num_rates - 1) is None:
            parts = parts[-1:]  # rates that do not build on each other: the finest is all
        for p in (p for r in parts for p in r.likelihoods.values()):
            slack += TABLE_BITS_PER_LATENT * p.numel()
            floor += float((-p.log2()).clamp(max=CODER_BITS).sum())
    assert slack < 0.1 * estimate
    assert floor > 0.8 * estimate
    above = SHARE_OF_FOREIGN if codec.caveats() else SHARE
    assert (1 - SHARE) * floor - slack < written < (1 + above) * estimate + slack


@every_model
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (33, 1), (17, 65), (64, 64), (130, 70)], ids=str)
def test_any_size(stem: str, size: tuple[int, int], zoo: Zoo) -> None:
    codec = zoo.ready(stem)
    x = zoo.signal(stem, *size)
    decoded = through_a_file(codec, x)
    assert decoded.shape == x.shape
    assert torch.equal(decoded, reconstruct(codec, x))


@every_model
def test_a_batch_is_its_members(stem: str, zoo: Zoo) -> None:
    codec = zoo.ready(stem)
    members = [zoo.signal(stem, 70, 90, index) for index in range(2)]
    streams = [codec.compress(x) for x in members]
    stream = codec.compress(torch.cat(members))
    assert stream.shape == (2, *members[0].shape[1:])
    assert stream.chunks == streams[0].chunks + streams[1].chunks
    decoded = codec.decompress(Bitstream.from_bytes(stream.to_bytes()))
    assert torch.equal(decoded, torch.cat([codec.decompress(s) for s in streams]))


# --- 5, 8: several rates


class BitPlanes(Codec):
    """Not a model but a yardstick of these tests: rate r sends the r + 1 top bits of each pixel."""

    num_rates = 4

    def forward(self, x: Tensor) -> list[Reconstruction]:
        levels = (x * 255).round().int()
        parts, sent = [], 0
        for rate in range(self.num_rates):
            sent += 1 << 7 - rate
            x_hat = ((levels & sent) + (1 << 6 - rate)) / 255
            p = {f"bits{rate}": torch.full_like(x, 0.5)}
            parts.append(Reconstruction(x_hat, x, p, f"plane{rate}", 1 / self.num_rates))
        return parts

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        levels = (x * 255).round().int().flatten()
        planes = [(levels >> 7 - r & 1).tolist() for r in range(int(rate) + 1)]
        return [bytes(plane) for plane in planes]

    def chunks_at(self, rate: int) -> int:
        return rate + 1

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(chunks) != rate + 1 or any(len(c) != math.prod(shape) for c in chunks):
            raise BitstreamError("the stream does not hold what this codec writes")
        levels = sum(torch.tensor(list(c)) << 7 - r for r, c in enumerate(chunks))
        return (levels.reshape(shape) + (1 << 6 - rate)) / 255


def rates_of(stem: str, zoo: Zoo) -> Codec:
    return ready_copy(BitPlanes()) if stem == "BitPlanes" else zoo.ready(stem)


def _with_several_rates() -> list[str]:
    zoo = Zoo(Path())
    return ["BitPlanes", *(stem for stem in MODELS if zoo.build(stem).num_rates > 1)]


every_ladder = pytest.mark.parametrize(
    "stem",
    [
        *(*_with_several_rates(), *DEFAULT_CURVES),
        *(pytest.param(stem, marks=pytest.mark.slow) for stem in CURVES if stem in SLOW),
    ],
)


@every_ladder
def test_a_prefix_of_a_stream_decodes_to_its_lower_rate(stem: str, zoo: Zoo) -> None:
    """Of a stream whose finer rates add chunks; where each rate has its own there is no prefix."""
    codec, x = rates_of(stem, zoo), torch.cat([zoo.photo(40, 70, index) for index in (0, 1)])
    finest = codec.compress(x)
    assert finest.rate == codec.num_rates - 1
    for rate in range(codec.num_rates):
        stream = codec.compress(x, rate)
        if codec.chunks_at(rate) is None:
            with pytest.raises(ModelError, match="compress anew"):
                codec.cut(finest, rate)
        else:
            assert codec.cut(finest, rate) == stream
            with pytest.raises(ModelError, match="the stream holds"):
                codec.cut(stream, rate + 1)
        assert torch.equal(through_a_file(codec, x, rate), codec(x)[rate].x_hat.clamp(0, 1))


@every_ladder
def test_finer_rates_cost_more_and_look_no_worse(stem: str, zoo: Zoo) -> None:
    codec, x = rates_of(stem, zoo), zoo.photo(256, 256)
    psnr, size, estimate = [], [], []
    finest = codec.reference(x).shape[-2:]
    for rate in range(codec.num_rates):
        # Layers of other sizes have other references: what counts is the finest image they give.
        decoded = through_a_file(codec, x, rate)
        if decoded.shape[-2:] != finest:
            decoded = interpolate(decoded, finest, mode="bicubic", antialias=True).clamp(0, 1)
        reference = codec.reference(x)
        psnr.append(metrics.psnr(to_uint8(decoded[0]), to_uint8(reference[0])))
        size.append(len(codec.compress(x, rate).to_bytes()))
        estimate.append(codec.estimate(x, rate))
    assert psnr == sorted(psnr) and size == sorted(size) and estimate == sorted(estimate)
    assert psnr[0] < psnr[-1] and size[0] < size[-1] and estimate[0] < estimate[-1]


@every_model
def test_a_rate_that_is_not_there_is_refused(stem: str, zoo: Zoo) -> None:
    codec, x = zoo.ready(stem), zoo.signal(stem, 16, 16)
    stream = codec.compress(x)
    assert stream.rate == codec.num_rates - 1
    none = (codec.num_rates, -codec.num_rates - 1, math.nan, -0.5)
    for rate in none if codec.real_rates else (*none, 0.5):
        with pytest.raises(ModelError, match="rate"):
            codec.compress(x, rate)
    with pytest.raises(BitstreamError):
        codec.decompress(replace(stream, rate=codec.num_rates))


# --- 6, 7: other times and places


@every_model
def test_a_saved_codec_writes_the_same_bytes(stem: str, zoo: Zoo, tmp_path: Path) -> None:
    codec, x = zoo.ready(stem), zoo.signal(stem, 128, 192)
    save_codec(tmp_path, codec, zoo.config(stem))
    loaded = load_codec(tmp_path)
    assert not loaded.training
    data = codec.compress(x).to_bytes()
    assert loaded.compress(x).to_bytes() == data
    stream = Bitstream.from_bytes(data)
    assert torch.equal(loaded.decompress(stream), codec.decompress(stream))


@pytest.mark.parametrize("stems", [DEFAULT, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_a_fresh_process_with_other_threads_decodes_the_same_images(
    stems: tuple[str, ...], zoo: Zoo, tmp_path: Path
) -> None:
    """Every model's, in one process: most of its time is imports."""
    assert torch.get_num_threads() == 1
    here: dict[str, Tensor] = {}
    for stem in stems:
        codec, images = zoo.ready(stem), []
        save_codec(tmp_path / stem, codec, zoo.config(stem))
        for index in range(3):
            # Large: of 130x170, two samples in three images are more than the share already.
            x = zoo.signal(stem, 390, 510, index)
            (tmp_path / stem / f"{index}.lic").write_bytes(codec.compress(x).to_bytes())
            images.append(reconstruct(codec, x)[0])
        here[stem] = torch.stack(images)
    decoder = [
        sys.executable,
        str(REPOSITORY / "tests/helpers/decode_all.py"),
        *(str(tmp_path / s) for s in here),
    ]
    subprocess.run(decoder, env={**os.environ, **TWO_THREADS}, cwd=REPOSITORY, check=True)
    assert (tmp_path / stems[0] / "threads").read_text() == "2"
    for stem, images in here.items():
        decoded = torch.load(tmp_path / stem / "decoded.pt", weights_only=True)
        assert_same_image(decoded, images)


@every_model
def test_the_bytes_do_not_depend_on_threads(stem: str, zoo: Zoo, two_threads: None) -> None:
    codec, x = zoo.ready(stem), zoo.signal(stem, 128, 192)
    of_two = codec.compress(x).to_bytes()
    torch.set_num_threads(1)
    assert codec.compress(x).to_bytes() == of_two
    one = codec.decompress(Bitstream.from_bytes(of_two))
    torch.set_num_threads(2)
    two = codec.decompress(Bitstream.from_bytes(of_two))
    assert_same_image(to_uint8(one[0]), two[0])


# --- 9, 10: streams that are not of this codec


@every_model
def test_a_damaged_stream_is_refused(stem: str, zoo: Zoo) -> None:
    codec = zoo.ready(stem)
    data = codec.compress(zoo.signal(stem, 40, 40)).to_bytes()
    draw = random.Random(0)
    lengths = range(len(data))
    for length in lengths if len(data) <= 200 else draw.sample(lengths, 200):
        with pytest.raises(BitstreamError):
            codec.decompress(Bitstream.from_bytes(data[:length]))
    for _ in range(200):
        altered = bytearray(data)
        altered[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        with pytest.raises(BitstreamError):
            codec.decompress(Bitstream.from_bytes(bytes(altered)))


@every_model
def test_damage_that_the_checksum_cannot_see_is_no_silent_garbage(stem: str, zoo: Zoo) -> None:
    """Chunks altered or cut and the file sealed again: refused, or the image is the right one (the
    last bits that a range coder flushes need not matter).

    Where every likelihood is 0.5 the bits are sent as they are: each pattern of them is the file of
    some image and holds nothing to check but its length.
    """
    codec, x = zoo.ready(stem), zoo.signal(stem, 40, 40)
    with torch.no_grad():
        raw = all(bool((p == 0.5).all()) for r in codec(x) for p in r.likelihoods.values())
    stream = codec.compress(x)
    image = codec.decompress(stream)
    draw = random.Random(0)
    refused, tries = 0, 60
    for _ in range(tries):
        chunks = [bytearray(chunk) for chunk in stream.chunks]
        chunk = draw.choice([chunk for chunk in chunks if chunk])
        where = draw.randrange(len(chunk))
        if raw or draw.random() < 0.3:
            del chunk[where:]
        else:
            chunk[where] ^= draw.randrange(1, 256)
        altered = replace(stream, chunks=tuple(map(bytes, chunks)))
        try:
            assert torch.equal(codec.decompress(Bitstream.from_bytes(altered.to_bytes())), image)
        except BitstreamError:
            refused += 1
    assert refused > tries / 2


@every_model
def test_a_stream_of_another_codec_is_refused(stem: str, zoo: Zoo) -> None:
    """Other numbers of chunks, channels or entries of the shape than this codec writes."""
    codec = zoo.ready(stem)
    stream = codec.compress(zoo.signal(stem, 16, 16))
    for changes in (
        {"chunks": ()},
        {"chunks": (*stream.chunks, b"")},
        {"chunks": stream.chunks[:-1]},
        {"shape": (2, *stream.shape[1:])},
        {"shape": (*stream.shape[:-3], 4, 16, 16)},
        {"shape": (1, 3, 16, 16) if len(stream.shape) == 5 else (1, 1, 3, 16, 16)},
    ):
        with pytest.raises(BitstreamError):
            codec.decompress(Bitstream.from_bytes(replace(stream, **changes).to_bytes()))


@every_model
def test_other_weights_refuse_the_stream(stem: str, zoo: Zoo) -> None:
    codec = zoo.ready(stem)
    stream = codec.compress(zoo.signal(stem, 16, 16))
    again = copy.deepcopy(codec)
    again.update()
    assert torch.equal(again.decompress(stream), codec.decompress(stream))
    other = zoo.ready_own(stem)
    weights = [name for name, _ in other.named_parameters() if name.endswith("weight")]
    for name, p in other.named_parameters():
        first = p.data.as_strided((1,), (1,))  # in memory, whatever the order of the dimensions
        before = first.clone()
        first.copy_(torch.nextafter(before, before + 1))  # the next float32
        other.fix_fingerprint()
        with pytest.raises(BitstreamError, match="other weights"):
            other.decompress(stream)
            pytest.fail(f"{name} differs")
        if name in (weights[0], weights[len(weights) // 2], weights[-1]):
            other.update()  # which takes a while
            with pytest.raises(BitstreamError, match="other weights"):
                other.decompress(stream)
        first.copy_(before)
    other.update()
    assert torch.equal(other.decompress(stream), codec.decompress(stream))


# --- training goes on undisturbed


@every_model
def test_a_codec_without_tables_does_not_code(stem: str, zoo: Zoo) -> None:
    x = zoo.signal(stem, 16, 16)
    stream = zoo.ready(stem).compress(x)
    codec = zoo.trained(stem).eval()
    with pytest.raises(ModelError, match="update"):
        codec.compress(x)
    with pytest.raises(ModelError, match="update"):
        codec.decompress(stream)
    codec.to(memory_format=torch.channels_last).update()  # as a ready copy has them in memory
    assert torch.equal(codec.decompress(stream), zoo.ready(stem).decompress(stream))
    with pytest.raises(ModelError, match="eval"):
        codec.train().compress(x)


@every_model
def test_a_ready_copy_leaves_the_original_alone(stem: str, zoo: Zoo) -> None:
    codec = zoo.trained(stem)
    before = copy.deepcopy(codec.state_dict())
    ready = ready_copy(codec, solve_quantiles=True)
    ready.compress(zoo.signal(stem, 16, 16))
    assert codec.training and not ready.training
    after = codec.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tables = [n for n in after if n.endswith(("_quantized_cdf", "_cdf_length", "_offset"))]
    assert bool(tables) == any(isinstance(m, EntropyModel) for m in codec.modules())
    assert all(after[name].numel() == 0 for name in tables)
    with pytest.raises(ModelError):
        codec.eval().compress(zoo.signal(stem, 16, 16))


@every_model
def test_training_steps_between_leave_eval_as_it_was(stem: str, zoo: Zoo) -> None:
    codec, x = zoo.ready_own(stem), zoo.signal(stem, 70, 70)
    data, image = codec.compress(x).to_bytes(), reconstruct(codec, x)
    codec.train()
    noisy = [codec(x)[-1].x_hat for _ in range(2)]
    assert not torch.equal(*noisy)  # training adds noise
    codec.eval()
    assert torch.equal(reconstruct(codec, x), image)
    assert torch.equal(reconstruct(codec, x), image)
    assert codec.compress(x).to_bytes() == data
