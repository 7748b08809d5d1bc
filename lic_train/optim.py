"""Two optimizers, net and aux, behind one face, so that one batch is one step for everybody."""

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


class NetAndAux(Optimizer):
    """The net optimizer to whoever looks; ``step``, ``zero_grad`` and state cover the aux one too.

    Lightning counts a step for every optimizer it is given, so two of them double
    ``global_step`` and fire every schedule early. ``param_groups`` are those of the net alone:
    that is what schedulers and clipping see.

    Args:
        net: steps on the rate-distortion loss.
        aux: steps on the aux loss; None where the quantiles are solved or there are none.
    """

    def __init__(self, net: Optimizer, aux: Optimizer | None) -> None:
        # Optimizer.__init__ would build parameter groups of its own; hooks are all it adds.
        super().__init__([p for g in net.param_groups for p in g["params"]], dict(net.defaults))
        self.net = net
        self.aux = aux
        self.param_groups = net.param_groups
        self.state = net.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.net.step()
        if self.aux is not None:
            self.aux.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.net.zero_grad(set_to_none)
        if self.aux is not None:
            self.aux.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "net": self.net.state_dict(),
            "aux": None if self.aux is None else self.aux.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # type: ignore[override]
        self.net.load_state_dict(state_dict["net"])
        self.param_groups = self.net.param_groups
        self.state = self.net.state
        if self.aux is not None:
            self.aux.load_state_dict(state_dict["aux"])


def build_optimizer(
    codec: Codec, net: OptimizerFactory, aux: OptimizerFactory | None
) -> tuple[NetAndAux, ParameterSets]:
    """Give each parameter set its optimizer; a codec without quantiles gets no aux optimizer."""
    sets = ParameterSets(codec)
    aux_optimizer = aux(sets.aux) if aux is not None and sets.aux else None
    return NetAndAux(net(sets.net), aux_optimizer), sets


def clip(parameters: list[nn.Parameter], max_norm: float | None) -> Tensor:
    """Clip the gradient of one parameter set by its total norm; return the norm before.

    Each set has its own norm: quantile gradients, clipped together with the others, would scale
    the step of the net.
    """
    if max_norm is None:
        grads = [p.grad for p in parameters if p.grad is not None]
        return nn.utils.get_total_norm(grads) if grads else torch.zeros(())
    return nn.utils.clip_grad_norm_(parameters, max_norm)
