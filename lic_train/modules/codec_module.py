"""The one LightningModule: it trains whatever keeps the codec contract, and knows no other kind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lic_train.codec import Codec
from lic_train.errors import TrainingError
from lic_train.training.loss import Lagrangian, RateDistortionLoss
from lic_train.training.optim import OptimizerFactory, build_optimizer, clip
from lic_train.utils.ranks import Leaving, gathered, mean_over_ranks


class CodecModule(pl.LightningModule):
    """Trains ``R + lambda D`` with the net optimizer and the aux loss with the aux optimizer.

    Args:
        codec: what is trained.
        loss: rate-distortion loss.
        net: optimizer of everything but the quantiles, as a partial.
        aux: optimizer of the quantiles, as a partial; None leaves them to be solved when tables
            are built.
        scheduler: schedule of the net's learning rate, stepped once a batch, as a partial.
        clip_norm: largest norm of the net's gradient; None does not clip.
        aux_clip_norm: the same for the quantiles.
        channels_last: keep activations in channels-last order (faster convolutions).
        freeze: parts of the codec that stay as they are, by their path in it, e.g. ``"base"``:
            in eval mode and in no optimizer.
        seed: >= 0, of the noise of training.
        lr_scale: what the net's learning rates are multiplied by, for batches of several ranks.

    Raises:
        ModelError: the codec has no such part.
    """

    def __init__(
        self,
        codec: Codec,
        loss: RateDistortionLoss,
        net: OptimizerFactory,
        aux: OptimizerFactory | None = None,
        scheduler: Callable[[Optimizer], Any] | None = None,
        clip_norm: float | None = 1.0,
        aux_clip_norm: float | None = None,
        channels_last: bool = True,
        freeze: Sequence[str] = (),
        seed: int = 0,
        lr_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.codec = codec
        self._frozen = [codec.part(name).requires_grad_(False) for name in freeze]
        self.loss = loss
        self._net, self._aux, self._scheduler = net, aux, scheduler
        if aux is None:
            # A parameter that never gets a gradient would stop plain DDP.
            for bottleneck in codec.entropy_bottlenecks():
                bottleneck.quantiles.requires_grad_(False)
        self.clip_norm, self.aux_clip_norm = clip_norm, aux_clip_norm
        self.channels_last = channels_last
        self.seed = seed
        self.lr_scale = lr_scale
        if channels_last:
            self.codec.to(memory_format=torch.channels_last)

    @property
    def solves_quantiles(self) -> bool:
        """Whether nothing trains the quantiles, so that ``update`` must solve for them."""
        return self._aux is None

    def train(self, mode: bool = True) -> CodecModule:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def configure_optimizers(self) -> Any:
        try:
            optimizer, self.parameter_sets = build_optimizer(self.codec, self._net, self._aux)
            for group in optimizer.param_groups:  # the net's alone
                group["lr"] *= self.lr_scale
            schedule = self._scheduler(optimizer) if self._scheduler is not None else None
        except (TypeError, ValueError) as error:  # the partials meet their arguments only here
            raise TrainingError(f"the optimizer or scheduler was refused: {error}") from error
        if schedule is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # The noise of a batch depends on nothing that came before it, so that a run that resumes
        # from a checkpoint draws what the uninterrupted run drew, on every rank.
        number = self.global_step * self.trainer.accumulate_grad_batches
        number += batch_idx % self.trainer.accumulate_grad_batches
        state = np.random.SeedSequence(self.seed, spawn_key=(self.global_rank, number))
        seed = int(state.generate_state(1, np.uint64)[0])
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        result = self._reconstruct(batch.x)
        aux_loss = self.codec.aux_loss()
        if not torch.isfinite(self._log("train", result, on_step=True)):
            self._stop_at(result.loss.item(), batch.names)
        self.log("train/aux_loss", aux_loss)
        # Disjoint: no net parameter is in the aux loss and no quantile in the other.
        return result.loss + aux_loss if self._aux is not None else result.loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._log("val", self._reconstruct(batch.x), on_step=False, size=len(batch.x))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Also reached where Lightning skips its own clipping hook because no value is set there.
        norm = clip(self.parameter_sets.net, self.clip_norm)
        if self._aux is not None:
            clip(self.parameter_sets.aux, self.aux_clip_norm)
        if not torch.isfinite(norm):
            self._stop(
                f"the gradient is {norm.item()} at step {self.global_step} while the loss is "
                "finite: lower optimizer.net.lr or train with trainer.precision=32-true"
            )
        self.log("train/grad_norm", norm)

    def _reconstruct(self, x: Tensor) -> Lagrangian:
        self.codec.accept(x)
        if self.channels_last:
            images = x.flatten(0, -4).contiguous(memory_format=torch.channels_last)
            x = images.unflatten(0, x.shape[:-3])
        return self.loss(self.codec(x))

    def _stop_at(self, loss: float, names: Sequence[str]) -> None:
        """Stop before a step that would ruin the weights, and say which images did it."""
        bad = [(x, images) for x, images in gathered((loss, list(names))) if not math.isfinite(x)]
        value, images = bad[0] if bad else (loss, names)
        self._stop(
            f"the loss is {value} at step {self.global_step}, images {', '.join(images)}: lower "
            "optimizer.net.lr or look at these images; a checkpoint written before is whole"
        )

    def _stop(self, why: str) -> None:
        """End all ranks together: one that ended alone would leave the others waiting for it."""
        raise TrainingError(why) if self.global_rank == 0 else Leaving

    def _log(self, stage: str, r: Lagrangian, on_step: bool, size: int | None = None) -> Tensor:
        """Log means over the ranks; that of the loss."""
        values = {"loss": r.loss, "bpp_estimated": r.bpp, "distortion": r.distortion}
        if len(r.terms) > 1:
            for name, (rate, distortion) in r.terms.items():
                values |= {f"{name}/bpp_estimated": rate, f"{name}/distortion": distortion}
        means = mean_over_ranks(torch.stack([v.detach() for v in values.values()]))
        named = {f"{stage}/{name}": mean for name, mean in zip(values, means, strict=True)}
        self.log_dict(named, on_step=on_step, on_epoch=not on_step, batch_size=size)
        return means[0]
