"""Latents decoded in groups of channels, each in the two passes of a checkerboard.

Every pass computes all its positions together, so that an image takes two passes a group whatever
its size. Contexts and parameters run in float64, see :mod:`.exact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from compressai.layers import CheckerboardMaskedConv2d
from torch import Tensor, nn

from lic_train.modules.entropy.exact import exactly
from lic_train.modules.entropy.wavefront import CodeStep

SHARES = (1 / 20, 1 / 20, 1 / 10, 1 / 5)
"""Of the channels of y, in all groups but the last: 16, 16, 32 and 64 of 320."""


def uneven_groups(channels: int) -> list[int]:
    """Channels of each group: small ones first, as they hold most of the information.

    Raises:
        ValueError: there are too few channels.
    """
    if channels < 2 * len(SHARES):
        raise ValueError(f"{channels} channels are too few for groups: {2 * len(SHARES)} or more")
    first = [max(1, round(share * channels)) for share in SHARES]
    return [*first, channels - sum(first)]


def anchors(height: int, width: int, device: Any = None) -> Tensor:
    """Whether a position is decoded in the first pass, bool ``(height, width)``."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return (rows[:, None] + columns) % 2 == 0


class GroupContext(nn.Module):
    """What is decoded already, and side information, to the parameters of a group of latents.

    ::

        groups before -> 5x5 nets ---------+
        hyper features --------------------+-> 1x1 net -> (sigma, mu)
        this group's anchors -> masked 5x5 +     (nothing for the anchors themselves)

    Args:
        before: channels of all groups before.
        channels: of this group.
        hyper: channels of the hyper features.
        width: of the first 5x5 layer over the groups before; the second has 4/7 of it.
        hidden: widths of the 1x1 net.
    """

    def __init__(
        self, before: int, channels: int, hyper: int, width: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        narrow = max(1, width * 4 // 7)
        self.before = nn.Sequential(
            nn.Conv2d(before, width, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(width, narrow, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(narrow, 2 * channels, 5, padding=2),
        ) if before else None  # fmt: skip
        self.beside = CheckerboardMaskedConv2d(channels, 2 * channels, 5, padding=2)
        inputs = hyper + (4 if before else 2) * channels
        self.parameters_of = nn.Sequential(
            nn.Conv2d(inputs, hidden[0], 1), nn.LeakyReLU(inplace=True),
            nn.Conv2d(hidden[0], hidden[1], 1), nn.LeakyReLU(inplace=True),
            nn.Conv2d(hidden[1], 2 * channels, 1),
        )  # fmt: skip

    def forward(self, hyper: Tensor, before: Tensor, own: Tensor) -> Tensor:
        """(scales, means) ``(N, 2 * channels, h, w)`` of all positions at once, for training.

        Args:
            hyper: hyper features.
            before: y of the groups before.
            own: y of this group, all of it.
        """
        first = anchors(own.shape[-2], own.shape[-1], own.device)
        known = [hyper] if self.before is None else [hyper, self.before(before)]
        beside = self.beside(own * first) * ~first
        result: Tensor = self.parameters_of(torch.cat((*known, beside), dim=1))
        return result


@torch.no_grad()
def group_walk(
    contexts: Sequence[GroupContext],
    groups: Sequence[int],
    hyper: Tensor,
    size: tuple[int, int],
    code: CodeStep,
) -> Tensor:
    """Run contexts, parameters and ``code`` over all passes, in float64.

    Encoder and decoder both call this, so that they do the same arithmetic in the same shapes.

    Args:
        contexts: one a group.
        groups: channels of each.
        hyper: hyper features ``(1, C, h, w)``, float64.
        size: ``(h, w)`` of the latents.
        code: gives y_hat of a pass from its scales and (not yet snapped) means.

    Returns:
        y_hat in raster order, ``(h * w, M)``, float64.
    """
    y_hat = hyper.new_zeros(1, sum(groups), *size)
    rows = y_hat[0].flatten(1).T  # (h * w, M), the same memory
    first = anchors(*size, hyper.device).flatten()
    passes = [torch.nonzero(first).flatten(), torch.nonzero(~first).flatten()]
    for context, start, count in zip(contexts, accumulate(groups, initial=0), groups, strict=False):
        channels = torch.arange(start, start + count, device=hyper.device)
        known = hyper
        if context.before is not None:
            known = torch.cat((known, exactly(context.before, y_hat[:, :start])), dim=1)
        beside = hyper.new_zeros(1, 2 * count, *size)
        for number, positions in enumerate(passes):
            if not positions.numel():  # a single latent is an anchor
                continue
            if number:  # so far, the group holds its anchors alone
                beside = exactly(context.beside, y_hat[:, start : start + count])
            features = torch.cat((known, beside), dim=1).flatten(2)[..., positions, None]
            found = exactly(context.parameters_of, features)[0, :, :, 0].T
            scales, means = found.chunk(2, dim=1)
            where = positions[:, None], channels
            rows[where] = code(where, scales, means)
    return rows
