"""Net and aux optimizers behind one face, so that one batch is one step for everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lic_train.codec import Codec

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class ParameterSets:
    """The trainable parameters of a codec, split: disjoint and complete.

    Attributes:
        net: everything the rate-distortion loss trains.
        aux: quantiles of the entropy bottlenecks, which only the aux loss trains.
    """

    def __init__(self, codec: Codec) -> None:
        named = [(name, p) for name, p in codec.named_parameters() if p.requires_grad]
        self.net = [p for name, p in named if not name.endswith(".quantiles")]
        self.aux = [p for name, p in named if name.endswith(".quantiles")]


class CombinedOptimizer(Optimizer):
    """Optimizers that step as one.

    Lightning counts a step for every optimizer it is given, so two of them double
    ``global_step`` and fire every schedule early.

    Args:
        parts: disjoint in their parameters.
        shown: how many of them, from the first, schedulers see: ``param_groups`` is theirs.
    """

    def __init__(self, parts: list[Optimizer], shown: int | None = None) -> None:
        # The base class adds the hooks that schedulers and trainers use; its groups are replaced.
        super().__init__([p for g in parts[0].param_groups for p in g["params"]], {})
        self.parts = parts
        self.shown = len(parts) if shown is None else shown
        self._show()

    def _show(self) -> None:
        self.param_groups = [g for part in self.parts[: self.shown] for g in part.param_groups]
        self.state = self.parts[0].state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._show()


def build_optimizer(
    codec: Codec, net: OptimizerFactory, aux: OptimizerFactory | None
) -> tuple[CombinedOptimizer, ParameterSets]:
    """Give each parameter set its optimizer; schedulers see the net's alone.

    A codec without quantiles gets no aux optimizer.
    """
    sets = ParameterSets(codec)
    parts = [net(sets.net)]
    if aux is not None and sets.aux:
        parts.append(aux(sets.aux))
    return CombinedOptimizer(parts, shown=1), sets


def clip(parameters: list[nn.Parameter], max_norm: float | None) -> Tensor:
    """Clip the gradient of one parameter set by its total norm; return the norm before.

    Each set has its own norm: quantile gradients, clipped together with the others, would scale
    the step of the net.
    """
    if max_norm is None:
        grads = [p.grad for p in parameters if p.grad is not None]
        return nn.utils.get_total_norm(grads) if grads else torch.zeros(())
    return nn.utils.clip_grad_norm_(parameters, max_norm)
