"""Another way of rounding for the last part of a training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class LateQuantise(Callback):
    """Sets ``quantise`` of every codec that has it when the last ``share`` of the batches begins.

    Noise is the smoother teacher, rounding is what the file holds: the decoder may get used to it
    at the end. Which batch it is counts, not what happened before, so that a run which was stopped
    resumes exactly.

    Args:
        quantise: from then on, one of ``modules.codecs.base.quantise.QUANTISERS``.
        share: of the batches, in (0, 1].

    Raises:
        ValueError: another share.
    """

    def __init__(self, quantise: str = "mixed", share: float = 0.2) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}, give a number above 0 and at most 1")
        self.quantise, self.share = quantise, share
        self._done = False

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if self._done or trainer.global_step < (1 - self.share) * trainer.max_steps:
            return
        self._done = True
        for part in module.codec.modules():
            if hasattr(part, "quantise"):
                part.quantise = self.quantise
