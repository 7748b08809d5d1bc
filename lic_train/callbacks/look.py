"""A look at what a run has learnt so far: every N batches, at a copy, without touching the run."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.export import ready_copy
from lic_train.codec.signal import Signal
from lic_train.errors import LicError
from lic_train.loggers.results import log_pictures


@dataclass
class Findings:
    """What a look found: numbers and PNG files, under the names that loggers show them by."""

    numbers: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)


class Look(Callback, ABC):
    """Base class: a subclass writes :meth:`look`, which gets a codec that is its own.

    The codec is a copy on the CPU, in eval mode, with tables; of an averaged run it has the
    averaged weights, which are those that will be exported. Rank 0 looks. Where it is the only
    one, training waits for it, and random generators are put back as they were. Where there are
    others, which would wait for it at the next batch, it looks in a thread: a look that is due
    before the last one is over is left out, and said to be. A thread shares the generators, so a
    codec that drew random numbers in eval mode would disturb the run there; none has reason to.
    What goes wrong in a look is said, and stops nothing.

    Args:
        out_dir: where its files go, named by their step.
        every_n_steps: batches from one look to the next.
        images: how many evaluation images are looked at, from the first: cost is proportional.
    """

    def __init__(self, out_dir: str | Path, every_n_steps: int, images: int) -> None:
        if every_n_steps < 1 or images < 1:
            raise ValueError(
                f"every_n_steps is {every_n_steps} and images {images}, give 1 or more"
            )
        self.out_dir = Path(out_dir)
        self.every_n_steps = every_n_steps
        self.images = images
        self._looked_at = -1
        self._thread: ThreadPoolExecutor | None = None
        self._pending: tuple[int, Future[Findings]] | None = None

    @abstractmethod
    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        """Look at ``codec`` after ``step`` batches with whole evaluation images."""

    def path(self, what: str, step: int) -> Path:
        """Of one file of a look; files of one kind sort by step."""
        return self.out_dir / f"{what.replace('*', f'{step:08d}')}"

    # --- when, and who waits
    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._deliver(trainer, wait=False)
        step = trainer.global_step
        # Accumulated batches come here several times with the same step.
        if step % self.every_n_steps or step == self._looked_at:
            return
        self._looked_at = step
        if self._pending:
            self._say(
                step, f"the look at step {self._pending[0]} is not over: every_n_steps is low"
            )
            return
        signals = list(islice(trainer.datamodule.signals(), self.images))  # type: ignore[attr-defined]
        codec = ready_copy(_judged(trainer, module), bool(module.solves_quantiles))
        work = partial(self.look, codec, signals, step)
        if trainer.world_size == 1:
            with isolate_rng():
                self._publish(trainer, step, work)
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, type(self).__name__)
            self._pending = step, self._thread.submit(work)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._deliver(trainer, wait=True)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _deliver(self, trainer: pl.Trainer, wait: bool) -> None:
        """Publish what the thread found, here, because loggers are not for threads."""
        if self._pending and (wait or self._pending[1].done()):
            (step, found), self._pending = self._pending, None
            self._publish(trainer, step, found.result)

    def _publish(self, trainer: pl.Trainer, step: int, work: Callable[[], Findings]) -> None:
        try:
            found = work()
        except Exception as error:  # whatever it is: days of training are worth more than a look
            name = "" if isinstance(error, LicError) else f"{type(error).__name__}: "
            self._say(step, f"{name}{error}")
            return
        for logger in trainer.loggers:
            if found.numbers:
                logger.log_metrics(found.numbers, step)
        log_pictures(trainer.loggers, found.pictures, step)

    def _say(self, step: int, reason: str) -> None:
        print(f"lic_train: no {type(self).__name__} of step {step}: {reason}", file=sys.stderr)


def one_image(pixels: Tensor) -> Tensor:
    """``(3, H, W)`` of an image, or of a clip its last frame, to which errors have added up."""
    return pixels.reshape(-1, *pixels.shape[-3:])[-1]


def _judged(trainer: pl.Trainer, module: Any) -> Codec:
    """The codec whose weights are validated and exported: averaged ones, where there are such."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and callback._average_model is not None:
            return callback._average_model.module.codec  # type: ignore[union-attr, return-value]
    return module.codec
