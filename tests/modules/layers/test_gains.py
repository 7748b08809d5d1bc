"""Gains per rate: the ladder, what lies between its rates, the rate in a file, lambda per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from helpers.models import WITH_GAINS
from helpers.zoo import Zoo
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import open_dict

from lic_train.codec import Reconstruction
from lic_train.codec.bitstream import Bitstream
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.layers.gains import RateGains, ladder, rate_as_coded, rate_head, split_rate
from lic_train.modules.layers.wavelet import gain_of
from lic_train.training.loss import RateDistortionLoss

MSE8 = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18)


def test_a_ladder_is_geometric_or_as_given() -> None:
    assert ladder(8, MSE8) == MSE8
    assert ladder(8, (0.0018, 0.18)) == pytest.approx(MSE8, rel=0.01)


@pytest.mark.parametrize(
    ("rates", "lmbdas", "says"),
    [
        (4, (0.1, 0.01), "above the one before"),
        (3, (0.01, 0.01, 0.1), "above the one before"),
        (2, (0.0, 0.1), "above the one before"),
        (2, (0.1, math.nan), "above the one before"),
        (2, (0.1, math.inf), "above the one before"),
        (4, (0.01, 0.02, 0.03), "3 lmbdas for 4 rates"),
        (4, (), "0 lmbdas for 4 rates"),
        (0, (0.01, 0.02), "rates is 0"),
        (65, (0.01, 0.02), "rates is 65"),
    ],
)
def test_a_ladder_that_is_none_is_refused(rates: int, lmbdas: Sequence[float], says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        ladder(rates, lmbdas)
    assert "\n" not in str(error.value)


def test_gains_begin_where_lambda_wants_the_step() -> None:
    gains = RateGains(5, MSE8)
    expected = [gain_of(value, 3) / gain_of(gains.middle, 3) for value in MSE8]
    found = gains.analysis(torch.arange(8))[:, 0, 0, 0].tolist()
    assert found == pytest.approx(expected, rel=1e-5)
    product = gains.analysis(torch.arange(8)) * gains.synthesis(torch.arange(8))
    assert torch.allclose(product, torch.ones(8, 5, 1, 1))


def test_logarithms_of_gains_are_linear_between_rates() -> None:
    gains = RateGains(3, (0.01, 0.02, 0.04)).eval()
    torch.nn.init.normal_(gains.of_y)
    whole, between = gains.analysis(torch.arange(3)), gains.analysis(torch.tensor([0.5, 1.5, 2.0]))
    assert torch.allclose(between[:2], (whole[:-1] * whole[1:]).sqrt())
    assert torch.equal(between[2], whole[2])


def test_a_batch_covers_the_ladder() -> None:
    gains = RateGains(2, MSE8)
    assert sorted(gains.drawn(16).tolist()) == sorted([*range(8)] * 2)
    seen = torch.cat([gains.drawn(3) for _ in range(400)])
    counts = torch.bincount(seen, minlength=8)
    assert counts.min() > 100 and len(counts) == 8  # 150 each
    assert {int(gains.drawn(8)[0]) for _ in range(200)} == set(range(8))


@pytest.mark.parametrize("rate", [0, 3, 0.25, 1.00001, 1.99999, 63])
def test_the_rate_in_a_file_is_read_back(rate: float) -> None:
    whole = math.ceil(rate)
    assert split_rate(rate_head(rate) + b"rest", whole) == (rate_as_coded(rate), b"rest")
    with pytest.raises(BitstreamError, match="rate"):
        split_rate(rate_head(rate) + b"rest", whole + 1)
    with pytest.raises(BitstreamError, match="rate"):
        split_rate(rate_head(rate)[:-1], whole)


def test_a_stream_under_another_rate_is_refused(zoo: Zoo) -> None:
    codec = zoo.ready("mean_scale+4")
    stream = codec.compress(zoo.photo(32, 32), 1.5)
    assert stream.rate == 2
    with pytest.raises(BitstreamError, match="rate does not match"):
        codec.decompress(replace(stream, rate=3))


def test_real_rates_rise_and_decode_to_what_forward_says(zoo: Zoo) -> None:
    codec, x = zoo.ready("mean_scale+4"), zoo.photo(256, 256)
    sizes = []
    for tenth in range(0, 31, 3):
        data = codec.compress(x, tenth / 10).to_bytes()
        image = codec.decompress(Bitstream.from_bytes(data))
        assert torch.equal(image, codec.reconstruct(x, tenth / 10).clamp(0, 1))  # type: ignore[arg-type]
        sizes.append(len(data))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("stem", WITH_GAINS)
def test_one_rate_has_no_gains(stem: str, zoo: Zoo) -> None:
    one = zoo.build(stem)
    several = {n: p.shape for n, p in zoo.build(f"{stem}+4").state_dict().items()}
    gains = {"gains.of_y": (4, 16), "gains.of_y_hat": (4, 16)}
    assert {n: p.shape for n, p in one.state_dict().items()} | gains == several
    assert one.num_rates == 1 and not one.real_rates and not one.own_lmbda


def test_every_image_has_its_own_lambda() -> None:
    """As the mean of the losses of each image alone."""
    target, x_hat = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    p = torch.rand(3, 4) + 0.01
    lmbdas = torch.tensor([0.01, 0.1, 1.0])
    loss = RateDistortionLoss(5.0)
    whole = loss([Reconstruction(x_hat, target, {"y": p}, lmbda=lmbdas)])
    each = [
        loss([Reconstruction(x_hat[i : i + 1], target[i : i + 1], {"y": p[i]}, lmbda=float(value))])
        for i, value in enumerate(lmbdas)
    ]
    assert whole.loss.item() == pytest.approx(sum(e.loss.item() for e in each) / 3, rel=1e-5)
    distortions = sum(e.distortion.item() for e in each) / 3
    assert whole.distortion.item() == pytest.approx(distortions, rel=1e-5)


@pytest.mark.parametrize(("stem", "part"), [("dvc", "intra"), ("compass", "base")])
def test_parts_of_other_codecs_have_one_rate(stem: str, part: str, zoo: Zoo) -> None:
    config = zoo.config(stem)
    with open_dict(config):
        config[part].rates = 3
    with pytest.raises(InstantiationException, match="rates=1"):
        instantiate(config)
