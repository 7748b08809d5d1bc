"""Who is examined, and what is found: one line each, a fault with its fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's page.

    Attributes:
        what: was looked at.
        said: what was seen there.
        fix: what to do about it; "" where nothing is wrong.
    """

    what: str
    said: str
    fix: str = ""

    @property
    def fault(self) -> bool:
        """Whether the run should not start like this."""
        return bool(self.fix)


@dataclass
class Preflight:
    """A run before it begins.

    Attributes:
        cfg: its config; attributes are read, nothing else is known of it.
        choices: which file each group of the config was taken from.
        hydra: Hydra's own settings.
        experiment: data, module and trainer as the run would have them; None before they are built.
    """

    cfg: Any
    choices: dict[str, Any] = field(default_factory=dict)
    hydra: Any = None
    experiment: Any = None

    @property
    def run_dir(self) -> Path:
        """Where the run would write."""
        return Path(str(self.cfg.run_dir)).resolve()

    @cached_property
    def batch(self) -> Any:
        """The first training batch."""
        data = self.experiment.data
        return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)

    @cached_property
    def validation(self) -> Any:
        """The first validation batch."""
        data = self.experiment.data
        return data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)

    def autocast(self, device: str) -> torch.autocast:
        """The precision of the run."""
        low = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        precision = str(self.experiment.trainer.precision)
        return torch.autocast(device, low.get(precision), enabled=precision in low)

    @cached_property
    def device(self) -> torch.device:
        """Where the run's first rank would compute."""
        root: torch.device = self.experiment.trainer.strategy.root_device
        return root

    def to_device(self, x: Tensor) -> Tensor:
        """A batch where the module is."""
        return x.to(self.device)


def finite(module: nn.Module) -> bool:
    """Whether all weights are numbers."""
    return all(bool(w.isfinite().all()) for w in module.parameters())
