"""Checkpoints that survive being killed: whole or not there, and the one before is kept."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Checkpoint

from lic_train.callbacks.stopping import Stopping
from lic_train.errors import ModelError, TrainingError
from lic_train.loggers.csv_log import CSVLog
from lic_train.utils.ranks import Leaving

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class Checkpoints(Checkpoint):
    """``last.ckpt`` before and after every validation, ``previous.ckpt`` beside it, ``best.ckpt``.

    A run resumes from ``last.ckpt``, or from ``previous.ckpt`` if that is damaged. On SIGTERM, by
    which clusters announce that they will kill, or SIGUSR1, by which Slurm does, the run writes
    one more at the next batch and leaves; in a validation it leaves at once, since the checkpoint
    before it is of this very batch.

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
        self._stopping = Stopping()
        self._validation_due = False
        self._before: dict[str, int] = {}  # what a step was made of until this checkpoint
        self._now: dict[str, int] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stopping.listen()
        for logger in trainer.loggers:
            if isinstance(logger, CSVLog):
                logger.go_on_from(trainer.global_step)
        if trainer.global_step and trainer.is_global_zero:
            print(f"train  resumes after batch {trainer.global_step} of {trainer.max_steps}",
                  flush=True)  # fmt: skip
        self._now = _step_shape(trainer)
        changed = [name for name, n in self._before.items() if self._now[name] != n]
        if changed and trainer.is_global_zero:
            words = ", ".join(f"{self._now[n]} {n} instead of {self._before[n]}" for n in changed)
            print(
                f"lic_train: {words} from batch {trainer.global_step} on: the run goes on, but "
                "will not have the bits of an uninterrupted one",
                file=sys.stderr,
            )
        if self._validation_due:
            _validate(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        finished = trainer.global_step == trainer.max_steps
        if finished or (index + 1) % trainer.accumulate_grad_batches:
            return  # of accumulated gradients there is no checkpoint
        step, signum = trainer.global_step, self._stopping.told(trainer)
        self._validation_due = _validation_follows(trainer)
        between = self.every_n_steps is not None and step % self.every_n_steps == 0
        if signum or between or self._validation_due:
            # Lightning would log this batch only after this hook: killed in between, the log would
            # lack its row for ever. A row that is logged twice is written once.
            trainer._logger_connector.update_train_step_metrics()
            save(trainer, self.dirpath / LAST)
        if signum:
            self._stopping.leave(trainer, signum, step)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._validation_due and (signum := self._stopping.told(trainer)):
            self._stopping.leave(trainer, signum, trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validation_due = False
        logged = trainer.callback_metrics.get(self.monitor)
        if logged is not None and (self.best is None or logged.item() < self.best):
            self.best = logged.item()
            _write_whole(trainer, self.dirpath / BEST)
        if trainer.global_step != trainer.max_steps:
            save(trainer, self.dirpath / LAST)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Not before: averaged weights are put in place by a callback's own `on_train_end`, and a
        # run that resumes from its last batch has none.
        save(trainer, self.dirpath / LAST)
        if signum := self._stopping.told(trainer):
            self._stopping.leave(trainer, signum, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "validation_due": self._validation_due, "step": self._now}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self._validation_due = state_dict.get("validation_due", False)
        self._before = state_dict.get("step", {})


def save(trainer: pl.Trainer, last: Path) -> None:
    """Write ``last``; what it was until then becomes ``previous.ckpt``. All ranks call this.

    Raises:
        TrainingError: it cannot be written; what was there before is as it was.
    """
    _write_whole(trainer, last, last.with_name(PREVIOUS))


def _write_whole(trainer: pl.Trainer, path: Path, previous: Path | None = None) -> None:
    """At every moment there is a whole one: the new takes the name once it is on disk."""
    part, fault = path.with_name(f".{path.name}.part"), None
    try:
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            _put_in_place(part, path, previous)
    except OSError as error:  # of the rank that writes; the others wait for it
        trainer.strategy.barrier()
        fault = error.strerror or str(error)
        with suppress(OSError):
            part.unlink()
    fault = trainer.strategy.broadcast(fault)
    if fault and not trainer.is_global_zero:
        raise Leaving
    if fault:
        raise TrainingError(
            f"{path} cannot be written ({fault}) after batch {trainer.global_step}: a "
            "checkpoint that was there is untouched; make room and give the same command again"
        )


def _put_in_place(part: Path, path: Path, previous: Path | None) -> None:
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


def _validate(trainer: pl.Trainer) -> None:
    """The validation that a checkpoint stands before; Lightning would leave it out."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def _step_shape(trainer: pl.Trainer) -> dict[str, int]:
    """What a run must not change if it is to be exact, in words."""
    batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", 0)
    return {
        "processes": trainer.world_size,
        "batches a step": trainer.accumulate_grad_batches,
        "samples a batch": batch_size,
    }


def newest_checkpoint(last: Path, module: pl.LightningModule) -> Path | None:
    """``last``, or the one before where ``last`` is damaged; None where there is neither.

    Looks before the trainer does: its own errors fill a screen.
    """
    advice = "give another hydra.run.dir, or delete it to start anew"
    damaged = ""
    for path in (last, last.with_name(PREVIOUS)):
        if not path.is_file():
            continue
        try:
            # Read whole: a file cut short would otherwise show only where it is cut.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            state, step = loaded["state_dict"], loaded["global_step"]
        except Exception as error:  # zip, pickle and torch each have their own
            damaged = damaged or f"{path} is not a checkpoint ({type(error).__name__})"
            continue
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise ModelError(f"{path} is a checkpoint of another model: {advice}")
        if damaged and getattr(rank_zero_only, "rank", 0) == 0:
            print(f"{damaged}: resuming from {path.name} at step {step}", file=sys.stderr)
        return path
    if damaged:
        raise ModelError(f"{damaged}: {advice}")
    return None
