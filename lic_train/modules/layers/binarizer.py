"""The binarizer: a value in (-1, 1) becomes one bit, -1 or +1; its gradient passes unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Binarizer(nn.Module):
    """Toderici et al. 2016 (arXiv 1511.06085), section 3.1, after Raiko et al. (1406.2989).

    In training the bit is +1 with probability (1 + y) / 2, so that its mean is y; the gradient is
    that of the mean, the identity. In eval, and behind an encoder that is frozen, which the noise
    could teach nothing, it is the sign, and that of 0 is +1: 0 is no bit.
    """

    def forward(self, y: Tensor) -> Tensor:
        """y in [-1, 1], any shape, to -1 and +1, float32."""
        y = y.float()
        learns = self.training and y.requires_grad
        threshold = 2 * torch.rand_like(y) - 1 if learns else torch.zeros_like(y)
        return _StraightThrough.apply(y, threshold)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, threshold: Tensor) -> Tensor:
        return torch.where(y < threshold, -1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
