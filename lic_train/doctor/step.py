"""One step of the run: loss, gradients, learning rate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from lic_train.doctor.preflight import Finding, Preflight, finite

LARGE_STEP = 0.3
"""Share of a weight's size that a first step may move it by; usual are 0.001-0.05."""


def one_step(p: Preflight) -> Iterator[Finding]:
    """Forward, backward and an optimizer's step on the first batch, on the run's device."""
    module, trainer = p.experiment.module, p.experiment.trainer
    optimizers = module.configure_optimizers()
    optimizer = optimizers["optimizer"] if isinstance(optimizers, dict) else optimizers
    if not finite(module):
        return  # told already
    module.to(p.device).train()
    with p.autocast(p.device.type):
        result = module.loss(module.codec(p.to_device(p.batch.x)))
    aux = module.codec.aux_loss()
    if not result.loss.isfinite():
        said = f"{result.loss.item()} on {', '.join(p.batch.names[:3])}"
        yield Finding("loss", said, "look at these images, or trainer.precision=32-true")
        return
    # As the module adds them: with an aux optimizer, both.
    (result.loss + aux if aux.requires_grad else result.loss).backward()
    said = f"{result.loss.item():.4g}: {result.bpp.item():.3g} bpp~, D {result.distortion:.4g}"
    yield Finding("step", f"loss {said} in {trainer.precision} on {p.device}")
    yield from _gradients(module.codec)
    yield from _learning_rate(module, optimizer)


def _gradients(codec: nn.Module) -> Iterator[Finding]:
    trained = {name: w for name, w in codec.named_parameters() if w.requires_grad}
    missing = [name for name, w in trained.items() if w.grad is None]
    broken = [n for n, w in trained.items() if w.grad is not None and not w.grad.isfinite().all()]
    if missing:
        said = f"none arrive at {len(missing)} of {len(trained)} parameters, e.g. {missing[0]}"
        yield Finding("gradients", said, "use them in forward, or freeze=[...]: DDP would stop")
    if broken:
        said = f"{len(broken)} of {len(trained)} are not finite, e.g. of {broken[0]}"
        yield Finding("gradients", said, "trainer.precision=32-true, or a smaller first layer")
    if not missing and not broken:
        yield Finding("gradients", f"arrive at all {len(trained)} parameters")


def _learning_rate(module: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Finding]:
    """By how much of its size the first step at the full rate moves a typical weight."""
    for group, full in zip(optimizer.param_groups, _full_rates(optimizer), strict=True):
        group["lr"] = full
    parts = [[w for w in part if w.ndim > 1 and w.any()] for part in _parts(optimizer)]
    before = [[w.detach().clone() for w in part] for part in parts]
    optimizer.step()
    # Of every part by itself: one that moves far is no better for another that does not.
    typical = max((_moved(*both) for both in zip(parts, before, strict=True)), default=0.0)
    rates = ", ".join(sorted({f"{group['lr']:g}" for group in optimizer.param_groups}))
    said = f"{rates}: the first full step moves weights by {100 * typical:.2g} % of their size"
    if typical > LARGE_STEP:
        yield Finding("learning rate", said, "optimizer.net.lr=1e-4 is the field's")
    else:
        yield Finding("learning rate", said)


def _parts(optimizer: torch.optim.Optimizer) -> Iterator[list[torch.Tensor]]:
    """The parameters of every optimizer that is one of the net's."""
    parts = getattr(optimizer, "parts", None)
    if parts is None:
        yield [w for group in optimizer.param_groups for w in group["params"] if w.requires_grad]
        return
    for part in parts[: getattr(optimizer, "shown", len(parts))]:
        yield from _parts(part)


def _moved(weights: list[torch.Tensor], before: list[torch.Tensor]) -> float:
    """The median over weights of the share of their size that they moved by."""
    if not weights:
        return 0.0
    shares = [
        ((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)
    ]
    return torch.tensor(shares).nan_to_num(torch.inf).median().item()


def _full_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """Without a schedule's warm-up."""
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
