"""The flow is a bijection, only its quantiser loses, and any step can be coded."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import pytest
import torch
from helpers.zoo import Zoo
from torch import Tensor

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import to_uint8
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.flow import PIXEL, Flow
from lic_train.modules.entropy.logistic import (
    LogisticConditional,
    LogisticDecoder,
    LogisticEncoder,
    table_indexes,
)
from lic_train.modules.entropy.symbols import Tables
from lic_train.modules.layers.coupling import Bijection, haar, unhaar
from lic_train.rd import metrics


def ready(zoo: Zoo) -> Flow:
    return cast(Flow, zoo.ready("flow"))


def file_of(codec: Flow, x: Tensor, step: float) -> Bitstream:
    """A stream of any step: its header's rate is not what decodes it."""
    assert codec._fingerprint is not None
    return Bitstream(tuple(codec.encode_at(x, step)), tuple(x.shape), 0, codec._fingerprint)


@pytest.mark.parametrize("size", [(32, 48), (17, 33), (1, 1)], ids=str)
def test_there_are_as_many_latents_as_samples(size: tuple[int, int], zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(*size)
    padded = 3 * (-(-size[0] // codec.stride)) * (-(-size[1] // codec.stride)) * codec.stride**2
    assert all(r.likelihoods["latents"].numel() == padded for r in codec(x))


@torch.no_grad()
def test_the_inverse_is_exact_after_training(zoo: Zoo) -> None:
    f, x = copy.deepcopy(ready(zoo).f), zoo.photo(64, 96)
    assert (f.inverse(f(x)) - x).abs().max() < 1e-4 < 0.5 * PIXEL
    f, x = f.double(), x.double()
    assert (f.inverse(f(x)) - x).abs().max() < 1e-9


@torch.no_grad()
def test_an_untrained_one_is_an_orthonormal_wavelet(zoo: Zoo) -> None:
    x = zoo.photo(64, 64).double()
    assert torch.allclose(unhaar(haar(x)), x, atol=1e-12, rtol=0)
    z = torch.cat([z.flatten() for z in Bijection(3, 2, 4).double().eval()(x)])
    assert torch.isclose(z.square().sum(), (x - 0.5).square().sum())


def test_the_jacobian_of_the_inverse_is_the_inverse_jacobian() -> None:
    """Of a tiny one with random weights; the loss needs no determinant, so there is none."""
    torch.manual_seed(0)
    f = Bijection(1, 2, 4).double().eval()
    for p in f.parameters():
        p.data.normal_(std=0.3)
    x = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    shapes = [z.shape for z in f(x)]

    def there(v: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in f(v.reshape(x.shape))])

    def back(v: Tensor) -> Tensor:
        parts = v.split([s.numel() for s in shapes])
        return f.inverse([p.reshape(s) for p, s in zip(parts, shapes, strict=True)]).flatten()

    jacobian = torch.autograd.functional.jacobian(there, x.flatten())
    inverse = torch.autograd.functional.jacobian(back, there(x.flatten()))
    assert torch.allclose(jacobian @ inverse, torch.eye(12).double(), atol=1e-9)


def test_actnorm_starts_from_the_first_batch_and_the_checkpoint_knows(zoo: Zoo) -> None:
    codec, x = cast(Flow, zoo.build("flow")), zoo.batch()
    norm = codec.f.levels[0].steps[0]
    codec.train()(x)
    bias = norm.bias.detach().clone()
    assert bool(norm.initialised) and bias.any()
    again = cast(Flow, zoo.build("flow"))
    again.load_state_dict(codec.state_dict())
    again.train()(1 - x)
    assert torch.equal(again.f.levels[0].steps[0].bias, bias)


def test_quality_goes_on_rising_as_the_step_falls(zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(96, 128)
    psnr, size = [], []
    for step in (200.0, 64.0, 20.0, 7.3, 2.0, 1.0):
        stream = file_of(codec, x, step)
        decoded = codec.decompress(Bitstream.from_bytes(stream.to_bytes()))
        psnr.append(metrics.psnr(*map(to_uint8, (decoded[0], x[0]))))
        size.append(len(stream.to_bytes()))
    assert psnr == sorted(psnr) and size == sorted(size)
    assert psnr[-1] > psnr[0] + 20 and psnr[-1] > 48


@pytest.mark.parametrize("step", [0.5, 2.0, 40.0])
def test_a_latent_moves_by_half_a_step_at_most(step: float, zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(64, 64)
    f = copy.deepcopy(codec.f).double()
    x_hat = codec.decode(codec.encode_at(x, step), (1, 3, 64, 64), 0)
    with torch.no_grad():
        for z, z_hat in zip(f(x.double()), f(x_hat.double()), strict=True):
            assert (z - z_hat).abs().max() < (0.5 + 1e-2) * step * PIXEL


@pytest.mark.parametrize("step", [0.5, 3.0, 40.0])
def test_coding_again_loses_nothing(step: float, zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(64, 64)
    chunks = codec.encode_at(x, step)
    x_hat = codec.decode(chunks, (1, 3, 64, 64), 0)
    assert codec.encode_at(x_hat, step) == chunks


def test_rates_and_steps_are_each_others_inverse(zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(40, 40)
    assert codec.step_of(0) == codec.coarsest
    assert codec.step_of(codec.num_rates - 1) == pytest.approx(codec.finest)
    for rate in (0, 0.25, 1.5):
        assert codec.rate_of(codec.step_of(rate)) == pytest.approx(rate, abs=1e-5)
        stream = codec.compress(x, rate)
        assert stream == replace(file_of(codec, x, codec.step_of(rate)), rate=stream.rate)
    sizes = [len(codec.compress(x, rate).to_bytes()) for rate in (0, 0.5, 1)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_that_is_none_is_refused(step: float, zoo: Zoo) -> None:
    codec, x = ready(zoo), zoo.photo(16, 16)
    with pytest.raises(ModelError, match="step"):
        codec.encode_at(x, step)
    chunk, low_bits = codec.encode_at(x, 8.0)
    head = torch.tensor(step).numpy().tobytes()
    with pytest.raises(BitstreamError, match="step"):
        codec.decode([head + chunk[4:], low_bits], (1, 3, 16, 16), 0)


def test_too_small_a_step_is_refused(zoo: Zoo) -> None:
    with pytest.raises(ModelError, match="too small"):
        ready(zoo).encode_at(zoo.photo(16, 16), 1e-30)


def test_symbols_of_every_scale_return_and_cost_what_they_should() -> None:
    torch.manual_seed(0)
    model = LogisticConditional().eval()
    model.update_scale_table(None, force=True)
    log_scales = torch.empty(20000, dtype=torch.float64).uniform_(-6, 13)
    u = torch.rand(20000, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    symbols = torch.round(log_scales.exp2() * torch.logit(u)).long()
    encoder = LogisticEncoder()
    for part, scales in zip(symbols.split(7000), log_scales.split(7000), strict=True):
        encoder.add(part.numpy(), scales)
    chunk, low_bits = encoder.finish(Tables(model), model.likelihood)
    decoder = LogisticDecoder(chunk, low_bits, Tables(model), 20000)
    for part, scales in zip(symbols.split(7000), log_scales.split(7000), strict=True):
        assert (decoder.next(scales) == part.numpy()).all()
    decoder.finish()
    estimate = -model.likelihood(symbols, log_scales).log2().sum().item()
    assert abs(8 * len(chunk + low_bits) - estimate) < 0.01 * estimate
    with pytest.raises(BitstreamError, match="too short"):
        short = LogisticDecoder(chunk, low_bits[:9], Tables(model), 20000)
        short.next(log_scales)
    rows, bits = table_indexes(torch.tensor([-9.0, -5, 5, 5.1, 6, 13]))
    assert rows.tolist() == [0, 0, 80, 73, 80, 80] and bits.tolist() == [0, 0, 0, 1, 1, 8]
