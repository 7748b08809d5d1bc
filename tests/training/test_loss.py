"""The Lagrangian is what it says it is, in numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.zoo import Zoo
from pytorch_msssim import ms_ssim
from torch import Tensor

from lic_train.codec import Reconstruction
from lic_train.codec.signal import MS_SSIM_MIN_SIDE
from lic_train.errors import TrainingError
from lic_train.training.loss import RateDistortionLoss

SHAPE = (2, 3, 4, 5)  # 40 pixels


def off_by(levels: float, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    """A target and a reconstruction that is ``levels`` of 255 too bright everywhere."""
    target = torch.full(shape, 0.25)
    return target + levels / 255, target


def coded(levels: float = 2, bits: int = 80, **options: object) -> Reconstruction:
    """``bits`` bits, a quarter of them for z."""
    likelihoods = {"y": torch.full((bits * 3 // 4,), 0.5), "z": torch.full((bits // 8,), 0.25)}
    return Reconstruction(*off_by(levels), likelihoods, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "distortion"),
    [("mse", 4.0), ("l1", 2.0), ("l2", (2 / 255) ** 2)],
)
def test_rate_plus_lambda_distortion(metric: str, distortion: float) -> None:
    result = RateDistortionLoss(0.25, metric)([coded()])  # type: ignore[arg-type]
    assert result.bpp.item() == pytest.approx(80 / 40)
    assert result.distortion.item() == pytest.approx(distortion, rel=1e-5)
    assert result.loss.item() == pytest.approx(2.0 + 0.25 * distortion, rel=1e-5)
    assert [t.item() for t in result.terms["image"]] == [result.bpp, result.distortion]


def test_free_reconstructions_cost_no_bits() -> None:
    result = RateDistortionLoss(0.25)([Reconstruction(*off_by(2), {})])
    assert result.bpp.item() == 0 and result.loss.item() == pytest.approx(1.0, rel=1e-5)


def test_bits_per_pixel_counts_true_pixels_of_all_images(zoo: Zoo) -> None:
    # 64 x 128 after padding, 3 channels, 3 images.
    x = zoo.batch(64)[..., :50, :33]
    (reconstruction,) = zoo.build("mean_scale").eval()(x)
    assert sum(p.numel() for p in reconstruction.likelihoods.values()) > 0
    bits = -sum(p.double().log2().sum().item() for p in reconstruction.likelihoods.values())
    result = RateDistortionLoss(0.01)([reconstruction])
    assert result.bpp.item() == pytest.approx(bits / (3 * 50 * 33), rel=1e-4)


def test_weights_share_out_the_lagrangian_and_own_lambdas_win() -> None:
    parts = [
        coded(2, name="a", weight=0.5),
        coded(4, bits=160, name="b", weight=0.25, lmbda=2.0),
    ]
    result = RateDistortionLoss(0.25)(parts)
    assert result.loss.item() == pytest.approx(0.5 * (2 + 0.25 * 4) + 0.25 * (4 + 2 * 16), rel=1e-5)
    assert result.bpp.item() == pytest.approx(2 + 4)
    assert result.distortion.item() == pytest.approx((0.5 * 4 + 0.25 * 16) / 0.75, rel=1e-5)
    assert {name: term[0].item() for name, term in result.terms.items()} == {"a": 2.0, "b": 4.0}


def test_weight_zero_is_logged_and_not_priced() -> None:
    priced, logged = coded(2, name="image"), coded(8, bits=40, name="warp", weight=0.0)
    logged.x_hat.requires_grad_()
    alone, both = (RateDistortionLoss(0.25)(parts) for parts in ([priced], [priced, logged]))
    assert both.loss.item() == alone.loss.item()
    assert both.distortion.item() == alone.distortion.item()
    assert [t.item() for t in both.terms["warp"]] == pytest.approx([1.0, 64.0], rel=1e-5)
    assert not both.loss.requires_grad
    with pytest.raises(TrainingError, match="no reconstruction with a weight"):
        RateDistortionLoss(0.25)([logged])


def test_float32_whatever_comes_in() -> None:
    # bfloat16 has no 100,000: the nearest are 99,840 and 100,352.
    likelihoods = {"y": torch.full((100_000,), 0.5, dtype=torch.bfloat16)}
    x_hat, target = (t.bfloat16() for t in off_by(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = RateDistortionLoss(0.25)([Reconstruction(x_hat, target, likelihoods)])
    for value in (result.loss, result.bpp, result.distortion, *result.terms["image"]):
        assert value.dtype == torch.float32
    assert result.bpp.item() == pytest.approx(100_000 / 40, rel=1e-5)
    expected = 255**2 * (x_hat.double() - target.double()).square().mean().item()
    assert result.distortion.item() == pytest.approx(expected, rel=1e-5)


def test_ms_ssim_needs_large_crops(zoo: Zoo) -> None:
    loss = RateDistortionLoss(2.4, "ms_ssim")
    photo = zoo.photo(200, MS_SSIM_MIN_SIDE)
    same = loss([Reconstruction(photo, photo, {})])
    assert same.distortion.item() == pytest.approx(0, abs=1e-5)
    noisy = loss([Reconstruction(photo + 0.1 * torch.randn_like(photo), photo, {})])
    assert 0.01 < noisy.distortion.item() < 1
    assert noisy.loss.item() == pytest.approx(2.4 * noisy.distortion.item())
    small = photo[..., : MS_SSIM_MIN_SIDE - 1]
    with pytest.raises(TrainingError, match=r"161 pixels.*these are 160.*data\.crop_size=192"):
        loss([Reconstruction(small, small, {})])


def test_ms_ssim_is_float32_under_autocast(zoo: Zoo) -> None:
    # Its convolutions would run in bfloat16, where variances turn negative and similarity passes 1.
    torch.manual_seed(0)
    target = zoo.photo(200, 200)
    x_hat = target + 0.01 * torch.randn_like(target)
    expected = 1 - ms_ssim(x_hat.double(), target.double(), data_range=1.0).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = RateDistortionLoss(2.4, "ms_ssim")([Reconstruction(x_hat, target, {})])
    assert result.distortion.item() == pytest.approx(expected, rel=1e-2) and expected > 0


def test_arguments_that_mean_nothing() -> None:
    for lmbda in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lmbda"):
            RateDistortionLoss(lmbda)
    with pytest.raises(ValueError, match="'psnr', not one of mse, ms_ssim, l1, l2"):
        RateDistortionLoss(0.01, "psnr")  # type: ignore[arg-type]
