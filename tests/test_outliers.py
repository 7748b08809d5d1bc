"""Outliers keep teaching: their gradient does not vanish with their likelihood."""

from __future__ import annotations

import torch
from compressai.entropy_models import GaussianConditional

from lic_train.modules.layers.outliers import FARTHEST, reach


def likelihood(y: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    model = GaussianConditional(None)
    return model.likelihood_lower_bound(model._likelihood(y, scales))


def test_an_outlier_widens_its_scale_where_the_plain_likelihood_does_not() -> None:
    y = torch.tensor([4.0])
    gradients = []
    for scales in (torch.tensor([0.2], requires_grad=True) for _ in range(2)):
        priced = reach(scales, y.abs()) if gradients else scales * 1
        (-likelihood(y, priced).log()).sum().backward()
        gradients.append(scales.grad.item())
    assert gradients[0] == 0  # underflow: the latent costs 30 bits and nothing will change that
    assert gradients[1] < -0.1  # descent raises the scale


def test_latents_within_reach_are_priced_as_they_are() -> None:
    scales = torch.rand(1000) + 0.2
    distances = scales * torch.rand(1000) * FARTHEST
    assert torch.allclose(reach(scales, distances), scales)
    assert torch.allclose(reach(scales, 10 * FARTHEST * scales), 10 * scales)
