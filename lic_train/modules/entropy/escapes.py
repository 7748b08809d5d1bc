"""What the range coder charges for the unlikely, so that an estimate can say so too.

A density falls for ever, a table does not: its smallest entry is ``2^-PRECISION``, and what lies
outside it is an escape, that entry and the distance in pieces of ``BYPASS`` bits. Outside training
likelihoods are these where they differ, or an outlier would be estimated at 30 bits that costs 16
bits, or 44.
"""

from __future__ import annotations

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from lic_train.modules.entropy.symbols import BYPASS, FARTHEST, PRECISION

GAUSSIAN_REACH = 6.11
"""Standard deviations that CompressAI's tables of a Gaussian reach: to a tail of 1e-9."""
SCALE_BOUND = 0.11
"""CompressAI's least scale."""


def as_coded(likelihood: Tensor, beyond: Tensor) -> Tensor:
    """``likelihood`` of symbols, but the coder's where that is another.

    Args:
        likelihood: under the density.
        beyond: steps outside the table, each like ``likelihood``; 0 or less within.
    """
    # The coder refuses what is farther, and 2^-150 is 0.
    exponents = torch.frexp((2 * beyond).clamp(0, 2 * FARTHEST)).exponent
    pieces = (exponents + BYPASS - 1).div(BYPASS, rounding_mode="floor")
    escape = torch.exp2(-(PRECISION + BYPASS * (1 + pieces)).to(likelihood))
    return torch.where(beyond > 0, escape, likelihood.clamp(min=2.0**-PRECISION))


def gaussian_as_coded(likelihood: Tensor, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
    """:func:`as_coded` of y, whole steps from their means."""
    reach = torch.ceil(GAUSSIAN_REACH * scales.clamp(min=SCALE_BOUND))
    return as_coded(likelihood, ((y - means).abs() - reach).round())


def factorised_as_coded(likelihood: Tensor, z_hat: Tensor, model: EntropyBottleneck) -> Tensor:
    """:func:`as_coded` of z_hat ``(N, C, ...)`` under ``model``, whole steps from its medians."""
    shape = (1, -1, *(1 for _ in z_hat.shape[2:]))
    lowest, median, highest = (q.reshape(shape) for q in model.quantiles.detach()[:, 0].unbind(1))
    below = (median - z_hat) - (median - lowest).ceil()
    above = (z_hat - median) - (highest - median).ceil()
    return as_coded(likelihood, torch.maximum(below, above).round())
