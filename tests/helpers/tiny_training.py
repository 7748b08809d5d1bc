"""A data module, a codec module and a trainer of seconds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.optim import Adam

from lic_train.codec import Codec
from lic_train.data.datamodule import ImageDataModule
from lic_train.data.sources import Samples
from lic_train.data.transforms import RandomResizedCrop
from lic_train.modules.codec_module import CodecModule
from lic_train.training.loss import RateDistortionLoss

PHOTOS = Samples("train", limit=2)


def crops() -> ImageDataModule:
    return ImageDataModule(PHOTOS, PHOTOS, RandomResizedCrop(64), batch_size=2)


def module(codec: Codec, **options: Any) -> CodecModule:
    arguments: dict[str, Any] = {
        "net": partial(Adam, lr=1e-3),
        "aux": partial(Adam, lr=1e-2),
        **options,
    }
    return CodecModule(codec, RateDistortionLoss(0.01), **arguments)


def trainer(folder: Path, steps: int, *callbacks: Callback, **options: Any) -> pl.Trainer:
    arguments: dict[str, Any] = {
        "max_steps": steps,
        "accelerator": "cpu",
        "devices": 1,
        "callbacks": list(callbacks),
        "default_root_dir": folder,
        "use_distributed_sampler": False,
        "limit_val_batches": 0,
        **dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        ),
        **options,
    }
    return pl.Trainer(**arguments)
