"""Learning-rate schedules that torch does not have in one piece."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, steps: int, warmup: int = 0, floor: float = 0.0
) -> LambdaLR:
    """Rise linearly over ``warmup`` batches, then fall by a half cosine to ``floor`` at ``steps``.

    Args:
        steps: length of the run, batches, > 0.
        warmup: batches; at most half of ``steps`` is used, so that short runs train at all.
        floor: last learning rate as a share of the first.
    """
    if steps <= 0:
        raise ValueError(f"the cosine schedule needs trainer.max_steps above 0, not {steps}")
    warmup = min(warmup, steps // 2)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
