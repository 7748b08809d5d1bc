"""COMPASS: odd sizes, LIFF's coordinates, layers at any scale, and the traps of the first code."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.zoo import Zoo
from torch import Tensor

from lic_train.cli import _main as cli
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec, save_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.io.images import read_image
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.base.quantise import straight_through
from lic_train.modules.codecs.compass import Compass, growing
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.codecs.mean_scale_odd import MeanScaleOdd
from lic_train.modules.layers.liff import LIFF, axis
from lic_train.training.loss import RateDistortionLoss
from lic_train.utils.files import write_png

SIZES = [tuple(random.Random(i).choices(range(1, 131), k=2)) for i in range(8)]


def codec_of(zoo: Zoo, *scales: float) -> Compass:
    codec = zoo.ready_own("compass")
    assert isinstance(codec, Compass)
    codec.scales, codec.num_rates = growing(scales), len(scales)
    return codec


def test_parameter_counts_are_the_papers() -> None:
    counts = [sum(p.numel() for p in part.parameters()) for part in (LIFF().encoder, LIFF())]
    assert counts == [658_112, 1_448_320]


def test_odd_padding_halves_upwards_and_weights_are_mean_scales() -> None:
    codec = MeanScaleOdd(8, 16)
    codec.load_state_dict(MeanScale(8, 16).state_dict())
    y = codec.analyse(torch.rand(1, 3, 307, 80))
    z = codec.hyper_analysis(y)
    assert y.shape[-2:] == (20, 5) and z.shape[-2:] == (5, 2)
    assert codec.h_s(z, (20, 5)).shape[-2:] == (20, 5)
    for side in range(1, 40):
        x = torch.rand(1, 3, side, 41 - side)
        assert codec(x)[0].x_hat.shape == x.shape


def test_mixed_quantisation_decodes_rounded_latents_with_the_gradient_of_unrounded_ones() -> None:
    y = torch.randn(1, 16, 4, 4, requires_grad=True)
    means = torch.rand(1, 16, 4, 4, requires_grad=True)
    y_hat = straight_through(y, means)
    assert torch.allclose(y_hat - means, torch.round(y - means), atol=1e-5)
    y_hat.sum().backward()
    assert y.grad is not None and (y.grad == 1).all() and means.grad is None
    x = torch.rand(1, 3, 64, 64)
    codec = MeanScaleOdd(8, 16, quantise="mixed").train()
    y = codec.analyse(x)
    y_hat, _ = codec.latents(y)
    assert y_hat.shape == y.shape and (y_hat - y).abs().max() <= 0.5 + 1e-5


def test_liff_knows_where_its_pixels_are() -> None:
    nearest, offset, cell = axis(3, 8, torch.device("cpu"))
    target = -1 + (2 * torch.arange(8) + 1) / 8
    centre = -1 + (2 * nearest + 1) / 3
    assert torch.allclose(offset, (target - centre) * 3, atol=1e-6)
    assert (offset.abs() <= 1).all() and nearest.tolist() == sorted(nearest.tolist())
    assert cell.unique().item() == pytest.approx(2 * 3 / 8)  # not always 2
    assert axis(5, 5, torch.device("cpu"))[2].unique().item() == 2


def test_chunked_queries_are_the_whole_and_so_are_their_gradients() -> None:
    torch.manual_seed(0)
    liff, x = LIFF(8, 1, 2, 4, 16), torch.rand(2, 3, 13, 11)
    results: list[tuple[Tensor, Tensor | None]] = []
    for queries in (10**6, 100, 1):
        liff.queries = queries
        pixels = liff(x, (31, 20))
        liff.zero_grad()
        pixels.square().mean().backward()
        results.append((pixels.detach(), liff.encoder.shallow.weight.grad))
    for pixels, gradient in results[1:]:
        assert gradient is not None and results[0][1] is not None
        assert torch.allclose(pixels, results[0][0], atol=1e-6)
        assert torch.allclose(gradient, results[0][1], atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_sizes_at_every_layer_by_a_decoder_that_has_only_the_file(
    size: tuple[int, int], zoo: Zoo
) -> None:
    codec, other, x = codec_of(zoo, 0.3, 0.55, 1.0), codec_of(zoo, 0.9), zoo.photo(*size)
    expected = codec(x)
    for rate in range(3):
        stream = Bitstream.from_bytes(codec.compress(x, rate).to_bytes())
        decoded = other.decompress(stream)  # its own scales do not matter
        assert decoded.shape[-2:] == codec.reference(x, rate).shape[-2:]
        assert torch.equal(decoded, expected[rate].x_hat.clamp(0, 1))
        assert torch.equal(expected[rate].target, codec.reference(x, rate))


@pytest.mark.parametrize("layers", [1, 2, 3, 5, 9])
def test_stacks_of_layers_and_steps_of_one(layers: int, zoo: Zoo) -> None:
    scales = [min(1.0, 0.2 + 0.8 * k / layers) for k in range(1, layers + 1)]
    codec, x = codec_of(zoo, *scales), zoo.photo(20, 37)
    stream = codec.compress(x)
    assert torch.equal(codec.decompress(stream), codec(x)[-1].x_hat.clamp(0, 1))
    for rate in range(layers):
        assert codec.cut(stream, rate) == codec.compress(x, rate)
    same = codec_of(zoo, 0.5, 0.501)
    assert same.sizes(x)[0] == same.sizes(x)[1]  # a step of 1.0
    assert same.decompress(same.compress(x)).shape[-2:] == (10, 18)


def test_training_draws_scales_from_torchs_generator(zoo: Zoo) -> None:
    codec, x = zoo.build("compass").train(), torch.rand(1, 3, 128, 96)
    assert isinstance(codec, Compass)
    draws = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        draws.append(codec.sizes(x))
    assert draws[0] == draws[2] != draws[1]
    for base, one, two in draws:
        assert base == (32, 24) and 32 <= one[0] <= 64 <= two[0] <= 128


def test_a_frozen_base_is_left_alone(zoo: Zoo) -> None:
    codec = zoo.build("compass").train()
    assert isinstance(codec, Compass)
    codec.base.requires_grad_(False).eval()
    RateDistortionLoss(0.01)(codec(zoo.batch())).loss.backward()
    assert all(p.grad is None for p in codec.base.parameters())
    assert all(p.grad is not None for n, p in codec.predictor.named_parameters())


@pytest.mark.parametrize("scales", [[0.5, 0.5], [0.5, 0.2], [0.0, 1.0], [0.5, 1.5], [], "x", 3])
def test_scales_that_do_not_grow(scales: object) -> None:
    with pytest.raises(ModelError, match="scales are") as caught:
        growing(scales)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_size_that_was_altered_is_refused(zoo: Zoo) -> None:
    codec = codec_of(zoo, 0.5, 1.0)
    stream = codec.compress(zoo.photo(40, 40))
    for chunk in (0, 2):
        first = bytearray(stream.chunks[chunk])
        first[0] -= 1  # 39 rows have as many latents as 40
        chunks = [*stream.chunks]
        chunks[chunk] = bytes(first)
        with pytest.raises(BitstreamError, match="malformed"):
            codec.decompress(replace(stream, chunks=tuple(chunks)))


def test_scales_are_set_when_coding_and_a_file_is_cut(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, image, file = tmp_path / "run", tmp_path / "x.png", tmp_path / "x.lic"
    save_codec(run, zoo.ready("compass"), zoo.config("compass"))
    write_png(image, to_uint8(zoo.photo(31, 50)[0]))

    def lic(*arguments: object) -> None:
        cli.main([str(argument) for argument in arguments])

    lic("compress", image, file, "--model", run, "--set", "scales=[0.2,0.4,0.7,0.9]")
    for rate, size in enumerate([(6, 10), (12, 20), (21, 35), (27, 45)]):
        lic("cut", file, tmp_path / "y.lic", "--rate", rate, "--model", run)
        lic("decompress", tmp_path / "y.lic", tmp_path / "y.png", "--model", run)
        assert read_image(tmp_path / "y.png").pixels.shape[-2:] == size
    capsys.readouterr()
    for setting, words in {
        "scales=[0.5,0.2]": "must be above the one before it",
        "nonsense=3": "one of the model's keys",
        "scales": "KEY=VALUE",
        "base.N=9": "does not fit",
    }.items():
        with pytest.raises(SystemExit):
            lic("compress", image, tmp_path / "z", "--model", run, "--set", setting)
        line = capsys.readouterr().err
        assert words in line and line.count("\n") == 1 and not (tmp_path / "z").exists()
    with pytest.raises(SystemExit):
        lic("cut", file, tmp_path / "z", "--rate", 4, "--model", run)
    assert "the stream holds 0 ... 3" in capsys.readouterr().err
    with pytest.raises(BitstreamError, match="cut short"):
        Bitstream.from_bytes(file.read_bytes()[:-40])
    assert load_codec(run, overrides=["scales=[1.0]"]).num_rates == 1
