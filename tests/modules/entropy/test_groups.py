"""Groups of channels in two passes: what coding computes is what training trains."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from lic_train.modules.entropy.groups import GroupContext, anchors, group_walk, uneven_groups
from lic_train.modules.entropy.wavefront import Where

GROUPS = [1, 2, 5]
HYPER = 6


@pytest.fixture
def contexts() -> list[GroupContext]:
    torch.manual_seed(0)
    befores = list(accumulate(GROUPS, initial=0))[:-1]
    made = [GroupContext(b, n, HYPER, 14, (12, 10)) for b, n in zip(befores, GROUPS, strict=True)]
    for context in made:
        for p in context.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (6, 9)], ids=str)
def test_the_walk_predicts_what_training_predicts(
    contexts: list[GroupContext], size: tuple[int, int]
) -> None:
    """From y_hat, all at once; and a latent is priced after all it depends on."""
    hyper = torch.randn(1, HYPER, *size, dtype=torch.float64)
    y = 9 * torch.randn(size[0] * size[1], sum(GROUPS), dtype=torch.float64)
    found = torch.full((2, *y.shape), torch.nan, dtype=torch.float64)
    calls = []

    def code(where: Where, scales: Tensor, means: Tensor) -> Tensor:
        assert torch.isnan(found[0][where]).all()  # each latent once
        found[0][where], found[1][where] = scales, means
        calls.append(scales.numel())
        return torch.round(y[where] - means) + means

    rows = group_walk(contexts, GROUPS, hyper, size, code)
    passes = 2 if y.shape[0] > 1 else 1
    assert len(calls) == passes * len(GROUPS) and sum(calls) == y.numel()
    assert not torch.isnan(found).any() and (rows - y).abs().max() <= 0.5
    y_hat = rows.T.reshape(1, -1, *size)
    start = 0
    for context, own in zip(contexts, y_hat.split(GROUPS, dim=1), strict=True):
        expected = context.double()(hyper, y_hat[:, :start], own).detach()[0].flatten(1).T
        stop = start + own.shape[1]
        walked = torch.cat((found[0][:, start:stop], found[1][:, start:stop]), dim=1)
        assert torch.allclose(walked, expected, atol=1e-12)
        start = stop


def test_a_latent_depends_on_nothing_that_is_decoded_later(contexts: list[GroupContext]) -> None:
    context, size = contexts[1].double(), (5, 7)
    hyper, before = (torch.randn(1, n, *size, dtype=torch.float64) for n in (HYPER, 1))
    own = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    first = anchors(*size)
    out = context(hyper, before, own)
    for own_parity in (True, False):
        (grad,) = torch.autograd.grad(
            out[..., first if own_parity else ~first].sum(), own, retain_graph=True
        )
        assert not grad[..., ~first].any()
        assert bool(grad[..., first].any()) != own_parity


def test_groups_are_the_papers() -> None:
    assert uneven_groups(320) == [16, 16, 32, 64, 192]
    for channels in (8, 16, 96, 191):
        assert sum(uneven_groups(channels)) == channels and min(uneven_groups(channels)) >= 1
    with pytest.raises(ValueError, match="too few"):
        uneven_groups(7)
