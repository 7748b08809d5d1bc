"""EDIC's own parts: attention, the mixture's axes, enhancement."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from compressai.entropy_models import GaussianConditional
from helpers.zoo import SHRUNK, Zoo
from scipy.stats import norm
from torch import Tensor, nn

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.contract import bits
from lic_train.codec.export import ready_copy
from lic_train.modules.codecs.edic import EDIC
from lic_train.modules.entropy.mixture import (
    _SCALES,
    ESCAPE_PROBABILITY,
    MAX_SCALE,
    MIN_SCALE,
    SCALES_PER_OCTAVE,
    WEIGHT_SUM,
    encode_mixture,
    fixed_point,
)
from lic_train.modules.layers.attention import ChannelAttention
from lic_train.modules.layers.enhancement import Enhancement

M = SHRUNK["M"]
LEAST = ESCAPE_PROBABILITY / 2  # of a symbol within the narrowest window
SMALL = {key: SHRUNK[key] for key in inspect.signature(EDIC).parameters if key in SHRUNK}


def small(**arguments: Any) -> EDIC:
    torch.manual_seed(0)
    return EDIC(**{**SMALL, **arguments})


def parameters(k: int, size: tuple[int, int] = (3, 4)) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, means and logits, each ``(2, k * M, h, w)``."""
    torch.manual_seed(0)
    scales, means, logits = torch.randn(3, 2, k * M, *size)
    return scales.exp(), 3 * means, 2 * logits


def assert_round_trip(codec: EDIC, zoo: Zoo) -> None:
    ready, x = ready_copy(codec), zoo.photo(130, 70)
    stream = ready.compress(x)
    decoded = ready.decompress(Bitstream.from_bytes(stream.to_bytes()))
    with torch.no_grad():
        assert torch.equal(decoded, ready(x)[0].x_hat.clamp(0, 1))
        y = ready.analyse(x)
    assert (y.round() != 0).float().mean() > 0.05


# --- enhancement


def test_enhancement_has_the_published_number_of_parameters() -> None:
    net = Enhancement(32, 3)
    assert sum(p.numel() for p in net.parameters()) == 168_227
    per_pixel = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))
    assert per_pixel == 167_616  # multiply-accumulates
    assert EDIC().enhancement.state_dict().keys() == net.state_dict().keys()


def test_untrained_enhancement_is_the_identity() -> None:
    torch.manual_seed(0)
    x, net = torch.randn(2, 3, 9, 11), Enhancement(32, 3)
    assert torch.equal(net(x), x)
    nn.init.ones_(net.tail.weight)
    assert not torch.equal(net(x), x)


def test_enhancement_is_of_the_whole_decoded_image(zoo: Zoo) -> None:
    """Before the crop: an image of any size sees the same padding as in training."""
    codec, x = zoo.ready("edic"), zoo.photo(70, 50)
    assert isinstance(codec, EDIC)
    with torch.no_grad():
        y_hat, _ = codec.latents(codec.analyse(x))
        plain = codec.g_s(y_hat)
        assert torch.equal(codec(x)[0].x_hat, codec.enhancement(plain)[..., :70, :50])
        assert not torch.equal(codec(x)[0].x_hat, plain[..., :70, :50])


def test_without_enhancement_there_is_none(zoo: Zoo) -> None:
    codec = small(enhancement_channels=0)
    assert not list(codec.enhancement.parameters())
    assert_round_trip(zoo.train(codec, steps=30), zoo)


# --- attention


def test_attention_weighs_whole_channels_by_their_means() -> None:
    torch.manual_seed(0)
    net, y = ChannelAttention(32), torch.randn(2, 32, 5, 7)
    weights = net(y) / y
    assert torch.allclose(weights, weights[..., :1, :1].expand_as(weights), atol=1e-5)
    assert ((weights > 0.9) & (weights < 1)).all()  # starts nearly open
    shuffled = y.flatten(2)[..., torch.randperm(35)].reshape(y.shape)
    assert torch.allclose(net(shuffled) / shuffled, weights, atol=1e-5)
    assert net.gate[0].out_channels == 2 and ChannelAttention(8).gate[0].out_channels == 1


@pytest.mark.parametrize("attention_on", ["yz", "y", "z", ""])
def test_attention_trains_and_codes_wherever_it_is(attention_on: str, zoo: Zoo) -> None:
    codec = small(attention_on=attention_on)
    for latent in "yz":
        module = getattr(codec, f"attention_{latent}")
        assert isinstance(module, ChannelAttention) == (latent in attention_on)
    before = copy.deepcopy(codec.state_dict())
    zoo.train(codec, steps=1)
    after = codec.state_dict()
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("h_s."))
    for latent in attention_on:
        name = f"attention_{latent}.gate.2.bias"
        assert not torch.equal(before[name], after[name])
    assert_round_trip(zoo.train(codec, steps=30), zoo)


# --- the mixture


@pytest.mark.parametrize("gmm_k", [1, 2, 3])
def test_every_number_of_components_codes(gmm_k: int, zoo: Zoo) -> None:
    assert_round_trip(zoo.train(small(gmm_k=gmm_k), steps=30), zoo)


def test_one_component_is_a_gaussian() -> None:
    scales, means, logits = parameters(1)
    y = 4 * torch.randn(2, M, 3, 4)
    likelihood, y_hat = small(gmm_k=1).eval()._likelihood(y, scales, means, logits)
    single = GaussianConditional(None).eval()
    assert torch.equal(y_hat, y.round())
    expected = single._likelihood(y.round(), scales, means)
    common = expected > LEAST  # the others have the coder's escape to fall back on
    assert 0.1 < common.float().mean() < 0.99
    assert torch.allclose(likelihood[common], expected[common], rtol=1e-6, atol=0)
    assert (likelihood >= expected).all() and (likelihood[~common] <= LEAST).all()


def test_a_latent_far_from_its_mixture_costs_what_the_coder_asks() -> None:
    """Unseen images hold latents at which the mixture is 0 in float32."""
    codec = small(gmm_k=2).eval()
    count = 2000
    y = torch.zeros(1, M, 1, count)
    y[:, 0] = torch.arange(count) % 100 + 30
    scales, means = torch.full((1, 2 * M, 1, count), 0.5), torch.zeros(1, 2 * M, 1, count)
    likelihood, _ = codec._likelihood(y, scales, means, means)
    estimate = -likelihood.log2().sum().item()
    parameters = (p[0].reshape(2, -1).T.double().numpy() for p in (means + 0.5, means, scales))
    chunk = encode_mixture(y.flatten().long().numpy(), fixed_point(*parameters))
    assert 0.97 * estimate < 8 * len(chunk) < 1.03 * estimate
    assert 20 < -likelihood[:, 0].log2().mean() < 26


@pytest.mark.parametrize("gmm_k", [2, 3])
def test_the_likelihood_is_the_mixtures(gmm_k: int) -> None:
    """Component k of channel c is channel k * M + c of each of the three parameters."""
    scales, means, logits = parameters(gmm_k)
    y = 4 * torch.randn(2, M, 3, 4)
    likelihood, _ = small(gmm_k=gmm_k).eval()._likelihood(y, scales, means, logits)
    expected = torch.zeros_like(likelihood, dtype=torch.float64)
    weights = torch.stack(logits.double().chunk(gmm_k, dim=1)).softmax(dim=0)
    for w, m, s in zip(weights, means.chunk(gmm_k, 1), scales.chunk(gmm_k, 1), strict=True):
        m, s = m.double().numpy(), s.double().clamp(min=0.11).numpy()
        above, below = y.round().numpy() + 0.5, y.round().numpy() - 0.5
        expected += w * torch.from_numpy(norm.cdf(above, m, s) - norm.cdf(below, m, s))
    common = expected > LEAST
    assert (likelihood - expected)[common].abs().max() < 1e-5


@pytest.mark.parametrize("gmm_k", [1, 2, 3])
def test_weights_sum_to_1_per_element(gmm_k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, seen = small(gmm_k=gmm_k), []
    monkeypatch.setattr(
        codec.gaussian_conditional, "_likelihood", lambda y, s, m, w: (seen.append(w), y)[1]
    )
    codec._likelihood(torch.zeros(2, M, 3, 4), *parameters(gmm_k))
    (weights,) = seen
    assert weights.shape == (2, gmm_k * M, 3, 4)
    assert torch.allclose(weights.unflatten(1, (gmm_k, M)).sum(dim=1), torch.ones(2, M, 3, 4))
    if gmm_k > 1:
        assert weights.std() > 0.1


@pytest.mark.parametrize("scale", [0.05, 0.2, 1.0])
def test_an_outlier_still_teaches_its_density(scale: float) -> None:
    """Descent widens the scale and moves the mean towards it, though the mixture is 0 there."""
    codec = small(gmm_k=2).train()
    y = torch.full((1, M, 1, 1), 30.0)
    scales = torch.full((1, 2 * M, 1, 1), scale, requires_grad=True)
    means = torch.zeros(1, 2 * M, 1, 1, requires_grad=True)
    likelihood, _ = codec._likelihood(y, scales, means, torch.zeros_like(means))
    assert (likelihood < 1e-6).all()
    likelihood.log2().neg().sum().backward()
    assert scales.grad is not None and means.grad is not None
    for gradient in (scales.grad, means.grad):  # of one component or both
        assert (gradient.unflatten(1, (2, M)).sum(1) < -0.01).all()


def test_likelihoods_of_all_integers_sum_to_1() -> None:
    codec = small(gmm_k=2).eval()
    scales, means, logits = (p[:1, :, :1, :1].expand(401, -1, -1, -1) for p in parameters(2))
    y = torch.arange(-200.0, 201).reshape(-1, 1, 1, 1).expand(-1, M, 1, 1)
    likelihood, _ = codec._likelihood(y, scales, means, logits)
    # What the escape adds is 2^-12 for it and as much for the underflown rest of its window.
    assert (likelihood.sum(dim=0) - 1).abs().max() < 2e-3


def test_no_scale_is_below_the_bound() -> None:
    codec = small(gmm_k=1).eval()
    zeros = torch.zeros(1, M, 2, 2)
    at_0, at_bound = (
        codec._likelihood(zeros, torch.full_like(zeros, s), zeros + 0.4, zeros)[0]
        for s in (-5.0, 0.11)
    )
    assert torch.equal(at_0, at_bound)


@pytest.mark.parametrize("gmm_k", [1, 2, 3])
def test_the_coders_parameters_are_those_of_training(gmm_k: int, zoo: Zoo) -> None:
    """Component, channel and position mean the same to the float and to the integer mixture."""
    ready, x = ready_copy(zoo.train(small(gmm_k=gmm_k), steps=30)), zoo.photo(128, 192)
    assert isinstance(ready, EDIC)
    with torch.no_grad():
        z_hat, _ = ready.side(ready.analyse(x))
        scales, means, logits = ready.entropy_parameters(ready.h_s(z_hat)).chunk(3, dim=1)
    mixture = ready._mixture(z_hat)

    def rows(parameter: Tensor) -> Tensor:
        return parameter[0].reshape(gmm_k, -1).T

    assert mixture.means.shape == (M * 8 * 12, gmm_k)
    weights = logits.unflatten(1, (gmm_k, M)).softmax(dim=1).flatten(1, 2)
    coded = [torch.from_numpy(v) for v in mixture]
    assert (rows(means) - coded[0] / 256).abs().max() < 0.51 / 256
    assert (rows(weights) - coded[2] / WEIGHT_SUM).abs().max() < gmm_k / WEIGHT_SUM
    ratio = torch.from_numpy(_SCALES)[coded[1]] / rows(scales).clamp(MIN_SCALE, MAX_SCALE)
    assert ratio.log2().abs().max() < 1 / SCALES_PER_OCTAVE


# --- arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"gmm_k": 0},
        {"gmm_k": -1},
        {"attention_on": "x"},
        {"attention_on": "zy"},
        {"hyper_input": "square"},
        {"hyper_input": ""},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        small(**arguments)


def test_the_hyper_encoder_sees_signs_or_not(zoo: Zoo) -> None:
    y = torch.randn(1, M, 8, 8)
    signed, magnitude = small().eval(), small(hyper_input="abs").eval()
    with torch.no_grad():
        assert not torch.allclose(signed.hyper_analysis(y), signed.hyper_analysis(-y))
        assert torch.equal(magnitude.hyper_analysis(y), magnitude.hyper_analysis(-y))
        assert torch.equal(magnitude.hyper_analysis(y), signed.hyper_analysis(y.abs()))
    assert_round_trip(zoo.train(small(hyper_input="abs"), steps=30), zoo)


def test_more_components_fit_no_worse(zoo: Zoo) -> None:
    """A second component that is trained away from the first makes training latents cheaper."""
    torch.manual_seed(0)
    y = torch.cat((torch.randn(2000) - 6, torch.randn(2000) + 6))[torch.randperm(4000)]
    y = y.reshape(1, 1, 50, 80).expand(-1, M, -1, -1)
    cost = []
    for k in (1, 2):
        codec = small(gmm_k=k).train()  # in eval outliers have no gradient
        raw = torch.randn(3, k, requires_grad=True)
        adam = torch.optim.Adam([raw], 0.3)
        for _ in range(60):
            scales, means, logits = (
                v.repeat_interleave(M).reshape(1, -1, 1, 1).expand(-1, -1, 50, 80) for v in raw
            )
            likelihood, _ = codec._likelihood(y, scales.exp(), 5 * means, logits)
            adam.zero_grad()
            bits(likelihood).backward()
            adam.step()
        cost.append(bits(likelihood).item() / y.numel())
    assert cost[1] < cost[0] - 0.5
