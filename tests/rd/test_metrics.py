"""What is measured on one image: 8-bit pixels, whole files, true sizes."""

from __future__ import annotations

import math

import pytest
import torch

from lic_train.codec.signal import to_uint8
from lic_train.rd import metrics


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_every_8_bit_value_survives_the_way_through_float() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(values.float() / 255), values)
    assert torch.equal(to_uint8(values.double() / 255), values)


def test_rounds_half_to_even_and_clamps() -> None:
    x = torch.tensor([-0.3, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.7], dtype=torch.float32)
    assert to_uint8(x).tolist() == [0, 0, 2, 2, 255]
    with pytest.raises(ValueError, match="floating point"):
        to_uint8(torch.ones(3, dtype=torch.uint8))


def test_a_reconstruction_that_rounds_to_the_original_is_lossless() -> None:
    original = noise(8, 8)
    x_hat = original.float() / 255 + 0.3 / 255
    on_floats = -10 * math.log10(((x_hat - original / 255) ** 2).mean().item())
    assert 58 < on_floats < 59  # what a peer would plot
    assert metrics.psnr(to_uint8(x_hat.clamp(max=1)), original) == math.inf


def test_psnr_agrees_with_torchmetrics_and_a_hand_computed_value() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a, b = noise(9, 7), noise(9, 7, seed=1)
    theirs = peak_signal_noise_ratio(a.double(), b.double(), data_range=255.0).item()
    assert metrics.psnr(a, b) == pytest.approx(theirs, abs=1e-5)
    black, one = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.ones(3, 4, 4, dtype=torch.uint8)
    assert metrics.psnr(black, one) == pytest.approx(20 * math.log10(255))
    # One uint8 subtraction would wrap 0 - 1 to 255.
    assert metrics.psnr(one, black) == metrics.psnr(black, one)


def test_psnr_is_of_one_mse_over_all_channels_not_a_mean_of_psnrs() -> None:
    a, b = torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(3, 2, 2, dtype=torch.uint8)
    b[0] = 3
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 3))


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ms_ssim])
def test_floats_and_unequal_shapes_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="uint8"):
        measure(noise(4, 4).float(), noise(4, 4).float())
    with pytest.raises(ValueError, match="shape"):
        measure(noise(4, 4), noise(4, 5))


def test_ms_ssim_is_undefined_below_161_pixels_and_right_above() -> None:
    assert math.isnan(metrics.ms_ssim(noise(160, 300), noise(160, 300)))
    a = noise(161, 170)
    assert metrics.ms_ssim(a, a) == 1
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as theirs,
    )

    # torchmetrics pads where pytorch_msssim does not, so only nearly.
    smooth = torch.linspace(0, 255, 192).expand(3, 192, 192)
    b = (smooth + 20 * torch.randn(3, 192, 192, generator=torch.Generator().manual_seed(2))).clamp(
        0, 255
    )
    a, b = smooth.byte(), b.byte()
    want = theirs(a[None].float(), b[None].float(), data_range=255.0).item()
    assert metrics.ms_ssim(a, b) == pytest.approx(want, abs=0.02)


def test_ms_ssim_in_db() -> None:
    assert metrics.ms_ssim_db(0.99) == pytest.approx(20)
    assert metrics.ms_ssim_db(1.0) == math.inf
    assert math.isnan(metrics.ms_ssim_db(math.nan))


def test_bpp() -> None:
    assert metrics.bpp(100, width=20, height=10) == 4


def test_ssim_agrees_with_scikit_image_and_needs_its_window() -> None:
    from skimage.metrics import structural_similarity

    a, b = noise(32, 40), noise(32, 40) // 2 + noise(32, 40, seed=1) // 2
    published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = structural_similarity(
        a.numpy(), b.numpy(), channel_axis=0, data_range=255, **published
    )
    assert 0.2 < theirs < 0.9
    assert metrics.ssim(a, b) == pytest.approx(theirs, abs=1e-6)
    assert metrics.ssim(a, a) == 1
    assert math.isnan(metrics.ssim(noise(10, 40), noise(10, 40)))
    with pytest.raises(ValueError, match="shape"):
        metrics.ssim(a, noise(32, 32))


def test_several_images_count_as_their_mean() -> None:
    """What leads ``(C, H, W)`` is flattened: the mean of the values, not the value of the mean."""
    a = torch.randint(0, 256, (2, 2, 3, 200, 170), dtype=torch.uint8)
    b = (a.int() + torch.tensor([1, 5, 9, 30]).reshape(2, 2, 1, 1, 1)).clamp(0, 255).byte()
    pairs = list(zip(a.flatten(0, 1), b.flatten(0, 1), strict=True))
    for metric in (metrics.psnr, metrics.ssim, metrics.ms_ssim):
        values = [metric(x, y) for x, y in pairs]
        assert metric(a, b) == pytest.approx(sum(values) / 4, rel=1e-5)
    assert metrics.bpp(100, 20, 10, images=4) == 1
