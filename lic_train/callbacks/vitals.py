"""How a training does beside its loss: learning rates, images per second, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

GB = 1e9
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ``ru_maxrss``."""


class Vitals(pl.Callback):
    """Logs ``lr/*``, ``speed/*`` and ``memory/*_gb`` in the row of every logged batch.

    Nothing waits for a GPU: the clock is read between two logged batches, whose losses are read
    anyway, and the peak of its memory is the allocator's own number. Frames of clips count as
    images. Speed is of all ranks together and without the time of validations; memory is the peak
    of the first rank.
    """

    def __init__(self) -> None:
        self._since = self._paused_at = 0.0
        self._images = self._batches = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._images = self._batches = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        self._images += batch.x.shape[:-3].numel() * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._since += time.perf_counter() - self._paused_at

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        # Here, not after the batch: what is logged now comes into the row of the loss.
        if (trainer.global_step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        seconds = max(time.perf_counter() - self._since, 1e-9)
        values = {f"lr/{name}": rate for name, rate in learning_rates(optimizer)}
        values["speed/images_per_s"] = self._images / seconds
        values["speed/s_per_step"] = seconds * trainer.accumulate_grad_batches / self._batches
        self._begin()
        module.log_dict(values | _memory(module.device))


def learning_rates(optimizer: Optimizer) -> Iterator[tuple[str, float]]:
    """Of the net's parts, e.g. ``net_muon`` and ``net_adam``, or ``net``; of the quantiles ``aux``.

    Args:
        optimizer: one, or the combined one of ``training/optim.py``, the net's parts first.
    """
    parts = getattr(optimizer, "parts", [optimizer])
    shown = getattr(optimizer, "shown", len(parts))
    net = [leaf for part in parts[:shown] for leaf in getattr(part, "parts", [part])]
    for leaf in net:
        yield (f"net_{type(leaf).__name__.lower()}" if len(net) > 1 else "net"), _rate(leaf)
    for part in parts[shown:]:
        yield "aux", _rate(part)


def _rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _memory(device: torch.device) -> dict[str, float]:
    """Peaks since the process began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    found = {"memory/host_gb": peak / GB}
    if device.type == "cuda":
        found["memory/gpu_gb"] = torch.cuda.max_memory_allocated(device) / GB
    return found
