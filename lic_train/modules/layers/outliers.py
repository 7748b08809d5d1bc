"""Latents far outside their predicted density, and how they still teach it."""

from __future__ import annotations

import torch
from torch import Tensor

FARTHEST = 5.0
"""Standard deviations beyond which a latent counts as an outlier; there p is about 1e-7."""


def reach(scales: Tensor, distances: Tensor) -> Tensor:
    """Scales widened until every latent lies within ``FARTHEST`` of its mean; for training only.

    Farther out the likelihood underflows to its floor, and with it the gradient that should widen
    the scale: such latents would keep costing 30 bits for ever. The gradient goes to the predicted
    scale, as if it were the widened one.

    Args:
        scales: predicted, any sign.
        distances: ``|y - mu|``, same shape.
    """
    return scales + (torch.maximum(scales, distances / FARTHEST) - scales).detach()
