"""What stands for rounding in training, as it has no gradient of its own."""

from __future__ import annotations

import torch
from torch import Tensor

QUANTISERS = ("noise", "mixed", "ste")
"""noise: uniform noise, priced and decoded (Ballé et al. 2017). ste: rounded values, priced and
decoded, with the gradient of unrounded ones (straight-through estimator, Theis et al. 2017).
mixed: the rate of noisy values, the decoder given rounded ones (Minnen, Singh 2020)."""


def checked_quantiser(quantise: str) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such way.
    """
    if quantise not in QUANTISERS:
        raise ValueError(f"quantise is {quantise!r}, not one of {', '.join(QUANTISERS)}")
    return quantise


def straight_through(y: Tensor, means: Tensor | float = 0.0) -> Tensor:
    """``round(y - means) + means`` with the gradient of y, like y."""
    return y + (torch.round(y - means) + means - y).detach()
