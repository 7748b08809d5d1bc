"""Which settings a result depends on: the others may differ between two lives of one run."""

from __future__ import annotations

from fnmatch import fnmatchcase

IGNORED = (
    *("run_dir", "title", "tags", "notes", "report"),
    "logger",
    "sweep",
    "init_from",  # a path: whoever compares puts the identity of the weights in its place
    "look_every",
    *(f"callbacks.{key}" for key in ("progress", "checkpoint", "vitals")),
    *(f"callbacks.{key}" for key in ("rd_curve", "reconstructions", "latents")),  # only look
    "evaluation._target_",
    "evaluation.device",
    "evaluation.save_images",
    *(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy")),
    *(f"trainer.{key}" for key in ("default_root_dir", "log_every_n_steps", "enable_*")),
    *(f"data.{key}" for key in ("num_workers", "pin_memory")),
    *(f"data*.{key}" for key in ("root", "eval_root", "cache_mb")),  # its files are compared
)
"""Patterns of names; of a name, all below it as well."""


def matters(key: str) -> bool:
    """Whether a result depends on the setting of this name, e.g. ``"model.N"``."""
    return not any(fnmatchcase(key, f"{name}{end}") for name in IGNORED for end in ("", ".*"))
