"""Rounding in training: what is priced, what is decoded, and that gradients pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lic_train.modules.codecs.base.motion_factorised import MotionFactorised
from lic_train.modules.codecs.base.quantise import QUANTISERS
from lic_train.modules.codecs.base.transform import TransformCodec
from lic_train.modules.codecs.edic import EDIC
from lic_train.modules.codecs.joint_prior import JointPrior
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.codecs.scale_only import ScaleOnly

CODECS = [MeanScale, ScaleOnly, JointPrior, EDIC, MotionFactorised]


def codec_of(kind: type[TransformCodec], quantise: str) -> TransformCodec:
    torch.manual_seed(0)
    widths = {"N": 16} if kind is MotionFactorised else {"N": 16, "M": 16}
    return kind(**widths, quantise=quantise).train()  # type: ignore[arg-type]


def coded(codec: TransformCodec) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)
    y = (4 * torch.randn(1, 16, 8, 8)).requires_grad_()
    y_hat, likelihoods = codec.latents(y)
    return y, y_hat, likelihoods


@pytest.mark.parametrize("kind", CODECS)
def test_noise_is_priced_in_mixed_and_rounded_values_in_ste(kind: type[TransformCodec]) -> None:
    results = {name: coded(codec_of(kind, name)) for name in QUANTISERS}
    y = results["noise"][0].detach()
    noise, mixed, ste = (results[name][2]["y"] for name in QUANTISERS)
    assert torch.equal(noise, mixed) and not torch.equal(noise, ste)
    assert not torch.equal(results["noise"][1], results["mixed"][1])
    for name in QUANTISERS:
        assert (results[name][1].detach() - y).abs().max() <= 0.5 + 1e-5


@pytest.mark.parametrize("kind", [EDIC, ScaleOnly])
def test_what_is_decoded_is_rounded(kind: type[TransformCodec]) -> None:
    """Where there are no means: whole numbers, from both ways that round."""
    for name in ("mixed", "ste"):
        y, y_hat, _ = coded(codec_of(kind, name))
        assert torch.equal(y_hat.detach(), y.detach().round())


@pytest.mark.parametrize("quantise", QUANTISERS)
@pytest.mark.parametrize("kind", CODECS)
def test_gradients_pass(kind: type[TransformCodec], quantise: str) -> None:
    y, y_hat, likelihoods = coded(codec_of(kind, quantise))
    (gradient,) = torch.autograd.grad(y_hat.sum(), y, retain_graph=True)
    assert torch.allclose(gradient, torch.ones_like(gradient))
    (priced,) = torch.autograd.grad(-likelihoods["y"].log().sum(), y)
    assert priced.isfinite().all() and priced.any()


def test_out_of_training_it_makes_no_difference() -> None:
    x = torch.rand(1, 3, 64, 64)
    images = [codec_of(MeanScale, name).eval()(x)[0].x_hat for name in QUANTISERS]
    assert all(torch.equal(images[0], image) for image in images)
