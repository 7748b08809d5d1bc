"""The line that moves: batches, loss, estimated bits per pixel, distortion."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

SHORT = {"train/loss": "loss", "train/bpp_estimated": "bpp~", "train/distortion": "D"}
"""Full names of the logged values and what they are called on one line; ~ marks an estimate."""


class Progress(TQDMProgressBar):
    """Lightning's bar over all batches of the run, with short names and nothing else on it."""

    @property
    def total_train_batches(self) -> int | float:
        # The loader is endless; how far the run goes is the trainer's to say.
        return self.trainer.max_steps if self.trainer.max_steps > 0 else super().total_train_batches

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_start(trainer, *_)
        self._place(trainer)  # a run that resumes within an epoch never meets the start of one

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer, *_)
        self._place(trainer)

    def _place(self, trainer: pl.Trainer) -> None:
        """Begin where the run does: of how many batches, and at which one its rate is counted."""
        bar = self.train_progress_bar
        bar.total = self.total_train_batches
        bar.initial = bar.n = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        bar.set_description("train")

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        logged = trainer.callback_metrics
        shown: dict[str, Any] = {"step": trainer.global_step}
        return shown | {s: f"{logged[k].item():.4g}" for k, s in SHORT.items() if k in logged}
