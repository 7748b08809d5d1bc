"""Names of earlier versions and what they are called now, for files that were written then."""

from __future__ import annotations

PREFIXES = {
    f"lic_train.modules.codecs.{stem}.": f"lic_train.modules.codecs.base.{stem}."
    for stem in ("motion_factorised", "transform", "hyperprior", "gaussian", "progressive", "patch")
}
"""Modules of classes that a ``model.yaml`` may name."""
TARGETS = {
    "lic_train.loss": "lic_train.training.loss",
    "lic_train.muon": "lic_train.training.muon",
    "lic_train.schedules": "lic_train.training.schedules",
    "lic_train.callbacks.csv_log": "lic_train.loggers.csv_log",
    "lic_train.callbacks.wandb_run": "lic_train.loggers.wandb_run",
    **{
        f"lic_train.data.{stem}": f"lic_train.data.sets.{stem}"
        for stem in ("benchmarks", "clips", "hub", "pixel_batches", "prepared", "thumbnails")
    },
    "lic_train.data.vimeo": "lic_train.data.sets.vimeo",
}
"""Modules of what a user's own configs may name."""


def moved_target(target: str) -> str:
    """A ``_target_`` by its name of today."""
    for old, new in PREFIXES.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    module, _, name = target.rpartition(".")
    return f"{TARGETS[module]}.{name}" if module in TARGETS else target
