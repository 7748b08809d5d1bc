"""One W&B run per run folder, however many lives it takes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from lic_train.utils.files import write_whole


def wandb_run(save_dir: str | Path, **options: Any) -> WandbLogger:
    """W&B's logger with the id that this folder's first life was given.

    Online, the run is resumed; offline, every life leaves a folder of its own, and `wandb
    sync` puts those of one id together.

    Args:
        save_dir: the run's folder; ``wandb_id`` in it holds the id.
        options: of Lightning's ``WandbLogger``; an ``id`` among them is taken as it is.
    """
    options["id"] = options.get("id") or _kept_id(Path(save_dir) / "wandb_id")
    if options.get("offline"):
        # Lightning sets the environment, which a W&B that is set up already reads no more.
        options["mode"] = "offline"
    logger = WandbLogger(save_dir=save_dir, **options)
    logger._wandb_init.pop("anonymous", None)  # Lightning always gives it, W&B warns of it
    return logger


def _kept_id(path: Path) -> str:
    if not path.is_file():
        write_whole(path, uuid.uuid4().hex[:8].encode())
    return path.read_text()
