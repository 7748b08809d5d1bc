"""Parameters and multiplications are those one counts by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.zoo import Zoo
from torch import nn

from lic_train.codec.cost import cost


def by_hand(codec: nn.Module) -> float:
    """Multiply-accumulates of its convolutions on 256x256 pixels, from the sizes that they give."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        nonlocal total
        weights = layer.weight.numel()
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else y
        total += weights * positions.shape[-1] * positions.shape[-2]

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(count) for m in codec.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        codec(torch.full((1, 3, 256, 256), 0.5))
    for hook in hooks:
        hook.remove()
    return total / 256**2 / 1e3


def test_what_a_codec_costs(zoo: Zoo) -> None:
    codec = zoo.build("mean_scale").eval()
    said = cost(codec)
    assert said["parameters"] == sum(p.numel() for p in codec.parameters())
    # The counter has the products of GDN and the densities as well.
    assert by_hand(codec) == pytest.approx(said["kmacs_per_pixel"], rel=0.25)
    assert said["kmacs_per_pixel"] >= by_hand(codec) * 0.999


def test_a_video_codec_and_one_that_takes_no_such_image(zoo: Zoo) -> None:
    assert cost(zoo.build("dvc").eval())["kmacs_per_pixel"] > 0
    codec = zoo.build("mean_scale").eval()
    codec.g_a = nn.Linear(7, 7)
    assert set(cost(codec)) == {"parameters"}
