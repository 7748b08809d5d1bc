"""Muon for convolutions: every weight moves by an orthogonal matrix, all directions alike.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scaling that
makes learning rates those of Adam is Liu et al. 2025 (arXiv 2502.16982). torch's own takes
matrices only; a convolution's weight is one, (out, in * height * width), once it is reshaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lic_train.training.optim import CombinedOptimizer

# Coefficients of the quintic whose iterates push every singular value towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Momentum, orthogonalised by a Newton-Schulz iteration in bf16.

    Args:
        params: weights of two or more dimensions; all but the first are flattened.
        lr: as for Adam: an update has the root mean square of ``0.2 * lr``.
        momentum: decay of the running mean of gradients, Nesterov's form.
        iterations: of Newton-Schulz; 5 leaves singular values in about [0.7, 1.2].
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2e-3,
        momentum: float = 0.95,
        iterations: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(mean, group["momentum"]).flatten(1)
                step = orthogonalise(update, group["iterations"]).view(p.shape).to(p)
                p.add_(step, alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonalise(matrix: Tensor, iterations: int) -> Tensor:
    """The matrix with its singular values moved to about 1, bf16."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def muon_and_adam(
    params: Iterable[nn.Parameter], lr: float = 2e-3, adam_lr: float | None = None, **muon: Any
) -> CombinedOptimizer:
    """Muon for the weights of convolutions that mix many channels, Adam for everything else.

    Biases, GDN, densities and the layers at the image (3 channels) are no matrices of many alike
    directions; Adam serves them better.

    Args:
        params: of a codec.
        lr: of Muon.
        adam_lr: of Adam; by default the same.
        muon: further arguments of :class:`Muon`.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for p in params:
        mixes = p.ndim == 4 and min(p.shape[:2]) > 3
        (matrices if mixes else others).append(p)
    adam = Adam(others, lr if adam_lr is None else adam_lr)
    return (
        CombinedOptimizer([Muon(matrices, lr, **muon), adam])
        if matrices
        else CombinedOptimizer([adam])
    )
