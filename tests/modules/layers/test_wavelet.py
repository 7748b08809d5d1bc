"""A wavelet start is a wavelet: orthonormal, invertible, ordered by sequency, and lambda's."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.zoo import Zoo
from torch import Tensor, nn

from lic_train.errors import ModelError
from lic_train.modules.codecs.base.motion_factorised import MotionFactorised
from lic_train.modules.codecs.edic import EDIC
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.layers import transforms
from lic_train.modules.layers.wavelet import gain_of, packet, wavelet_start


def linear(transform: nn.Sequential) -> nn.Sequential:
    """The same layers without what lies between them."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return nn.Sequential(*(m for m in transform if isinstance(m, convolutions)))


def whole(lmbda: float = 0.01) -> tuple[nn.Sequential, nn.Sequential]:
    """A packet with all its 3 * 16 * 16 bands."""
    g_a, g_s = transforms.analysis(192, 768), transforms.synthesis(192, 768)
    wavelet_start(g_a, g_s, lmbda)
    return linear(g_a), linear(g_s)


@torch.no_grad()
def test_a_whole_packet_is_orthonormal_and_inverts_itself(zoo: Zoo) -> None:
    g_a, g_s = whole()
    x = zoo.photo(64, 96)
    y = g_a(x)
    energy = (x - 0.5).square().sum()
    assert y.square().sum() / gain_of(0.01, 3) ** 2 == pytest.approx(energy.item(), rel=1e-4)
    assert (g_s(y) - x).abs().max() < 1e-4


@torch.no_grad()
def test_a_band_changes_sign_as_often_as_it_says() -> None:
    _, g_s = whole()
    bands = [step.band for step in packet(3, [12, 48, 192, 768])[-1]]
    grey = g_s(torch.zeros(1, 768, 1, 1))
    for channel in range(0, 768, 5):
        y = torch.zeros(1, 768, 1, 1)
        y[0, channel] = 1.0
        block = (g_s(y) - grey)[0]
        block = block[block.abs().amax((1, 2)).argmax()]
        down, across = (int((line[1:] * line[:-1] < 0).sum()) for line in (block[:, 0], block[0]))
        assert (down, across) == (bands[channel].down, bands[channel].across)


@torch.no_grad()
@pytest.mark.parametrize("M", [96, 192])
def test_untrained_it_codes_a_photograph(M: int, zoo: Zoo) -> None:
    x = zoo.photo(256, 384)
    g_a, g_s = transforms.analysis(64, M), transforms.synthesis(64, M)
    scales = wavelet_start(g_a, g_s, 0.0067)
    y = g_a(x)
    error = (g_s(y.round()).clamp(0, 1) - x).square().mean().item()
    assert -10 * math.log10(error) > 26
    assert (y.round() != 0).float().mean() < 0.5
    # The entropy model begins at scales that fit: the widest channels within a factor of two.
    measured = y.square().mean((0, 2, 3)).sqrt()[:8]
    assert (0.5 < scales[:8] / measured).all() and (scales[:8] / measured < 2).all()


def test_the_gain_is_what_lambda_asks_for() -> None:
    """Rate - log2 D and lambda * D^2 / 12 balance at the step."""
    lmbda = 0.0067
    step = 255 / gain_of(lmbda, 3)
    cost = [-math.log2(d) + lmbda * d * d / 12 for d in (0.99 * step, step, 1.01 * step)]
    assert cost[1] == min(cost)
    assert gain_of(4 * lmbda, 3) == pytest.approx(2 * gain_of(lmbda, 3))


@torch.no_grad()
def test_motion_survives_leaky_layers() -> None:
    """A field that a block moves by is coded to a fraction of a pixel, untrained."""
    codec = MotionFactorised(64, start="wavelet")
    codec.begin_signed()
    torch.manual_seed(0)
    v = nn.functional.interpolate(4 * torch.randn(1, 2, 4, 4), (128, 128), mode="bicubic")
    v_hat = codec.g_s(codec.g_a(v).round())
    assert (v_hat - v).std() < 0.2 * v.std()


def test_signed_signals_begin_at_nothing() -> None:
    codec = EDIC(16, 32, enhancement_channels=0, start="wavelet")
    codec.begin_signed()
    zeros = torch.zeros(1, 3, 64, 64)
    assert codec.analyse(zeros).abs().max() < 1e-4
    assert codec.synthesise(torch.zeros(1, 32, 4, 4), 64, 64).abs().max() < 1e-4


def shapes(codec: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in codec.state_dict().items()}


def test_shapes_and_keys_are_those_of_a_random_start() -> None:
    assert shapes(MeanScale(16, 24)) == shapes(MeanScale(16, 24, start="wavelet"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"start": "wave"}, "start is 'wave', not one of random, wavelet"),
        ({"N": 5, "start": "wavelet"}, "layers of 6 channels or more"),
        ({"M": 5, "start": "wavelet"}, "layers of 6 channels or more"),
        ({"start": "wavelet", "start_lmbda": 0.0}, "start_lmbda is 0.0"),
        ({"start": "wavelet", "start_lmbda": math.nan}, "start_lmbda is nan"),
        ({"quantise": "round"}, "quantise is 'round', not one of noise, mixed, ste"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: dict[str, object], said: str) -> None:
    with pytest.raises((ModelError, ValueError), match=said):
        MeanScale(**{"N": 8, "M": 16, **arguments})  # type: ignore[arg-type]


def test_four_channels_have_no_colours() -> None:
    with pytest.raises(ModelError, match="1, 2 or 3 channels, not 4"):
        wavelet_start(transforms.analysis(16, 16, 4), transforms.synthesis(16, 16, 4), 0.01)


def test_a_scale_that_the_entropy_model_begins_with_reaches_it(zoo: Zoo) -> None:
    """Whatever z holds at first, the predicted scales are near those of the start."""
    x = zoo.photo(64, 64)
    for codec in (MeanScale(16, 24, start="wavelet"), zoo.build("joint_prior")):
        expected: Tensor = wavelet_start(codec.g_a, codec.g_s, codec_lmbda(codec))
        y = codec.analyse(x)
        z_hat, _ = codec.side(y)
        scales, _ = codec.predict(z_hat, y)
        ratio = scales.mean((0, 2, 3))[:3] / expected[:3]
        assert (0.5 < ratio).all() and (ratio < 2).all()


def codec_lmbda(codec: nn.Module) -> float:
    return 0.0067 if isinstance(codec, MeanScale) else 0.03
