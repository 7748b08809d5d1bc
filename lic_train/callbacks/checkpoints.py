"""Checkpoints that survive being killed: whole or not there, and the one before is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class Checkpoints(Checkpoint):
    """``last.ckpt`` after every validation, ``previous.ckpt`` beside it, ``best.ckpt``.

    A run goes on from ``last.ckpt``, or from ``previous.ckpt`` if that is damaged. SIGTERM, by
    which clusters announce that they will kill, writes one more at the next batch.

    Args:
        dirpath: is made where it does not exist.
        monitor: logged value whose lowest makes ``best.ckpt``.
        every_n_steps: batches; further checkpoints between validations.
    """

    def __init__(
        self, dirpath: str | Path, monitor: str = "val/loss", every_n_steps: int | None = None
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}, give 1 or more")
        self.dirpath = Path(dirpath)
        self.monitor = monitor
        self.every_n_steps = every_n_steps
        self.best: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Where a validation follows, its checkpoint does: gone on with from one before it, the
        # run would leave the validation out.
        if (
            self.every_n_steps
            and trainer.global_step % self.every_n_steps == 0
            and not _validation_follows(trainer)
        ):
            save(trainer, self.dirpath / LAST)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        logged = trainer.callback_metrics.get(self.monitor)
        if logged is not None and (self.best is None or logged.item() < self.best):
            self.best = logged.item()
            _write_whole(trainer, self.dirpath / BEST)
        save(trainer, self.dirpath / LAST)

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        # In the middle of a validation there is no state that a run could go on from.
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            save(trainer, self.dirpath / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def save(trainer: pl.Trainer, last: Path) -> None:
    """Write ``last``; what it was until then becomes ``previous.ckpt``. All ranks call this."""
    _write_whole(trainer, last, last.with_name(PREVIOUS))


def _write_whole(trainer: pl.Trainer, path: Path, previous: Path | None = None) -> None:
    """At every moment there is a whole one: the new takes the name once it is on disk."""
    part = path.with_name(f".{path.name}.part")
    trainer.save_checkpoint(part)
    if not trainer.is_global_zero:
        return
    _sync(part)
    if previous is not None and path.is_file():
        other_name = path.with_name(f".{previous.name}.part")
        other_name.unlink(missing_ok=True)
        try:
            os.link(path, other_name)
        except OSError:  # a file system without hard links
            os.replace(path, other_name)
        os.replace(other_name, previous)
    os.replace(part, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _validation_follows(trainer: pl.Trainer) -> bool:
    interval = trainer.val_check_batch
    if not trainer.enable_validation or not isinstance(interval, int):
        return False
    return (trainer.fit_loop.total_batch_idx + 1) % interval == 0
