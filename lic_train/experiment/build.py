"""From a config to the objects of a run: the one reader of ``cfg`` beside the run itself."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from lic_train.codec import Codec
from lic_train.codec.blueprint import foreign_targets
from lic_train.codec.export import load_weights, ready_copy
from lic_train.errors import DataError, TrainingError
from lic_train.evaluation.evaluate import Evaluator
from lic_train.experiment.settings import check_settings
from lic_train.modules.codec_module import CodecModule
from lic_train.runs.names import with_target
from lic_train.utils.configs import config_dir
from lic_train.utils.starts import starts


@dataclass
class Experiment:
    """The objects of one run, built from its config."""

    data: Any
    module: CodecModule
    trainer: pl.Trainer
    evaluator: Evaluator
    model_config: DictConfig


def compose(overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """The config of ``python -m lic_train OVERRIDES``, and Hydra's own, without starting a run."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = hydra_compose("train", with_target(overrides), return_hydra_config=True)
    with open_dict(cfg):
        hydra = cfg.hydra
        HydraConfig.instance().set_config(copy.deepcopy(cfg))
        cfg.run_dir = str(Path(HydraConfig.get().run.dir).absolute())
        del cfg["hydra"]
    return cfg, hydra


def build(cfg: DictConfig) -> Experiment:
    """Instantiate evaluator, data, codec, module and trainer; every key is a constructor argument.

    The evaluator comes first: what it refuses is told before anything costs time.
    """
    check_settings(cfg)
    try:
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"seed={cfg.seed} cannot be used: {error}") from None
    evaluator = instantiate(cfg.evaluation)
    # The user's own config names them: that is as good as --trust.
    evaluator.trust = list(foreign_targets(OmegaConf.to_container(cfg.model)))
    data = instantiate_data(cfg.data)
    codec = instantiate(cfg.model)
    for start in starts(cfg.init_from):
        load_weights(codec.part(start.part), start.run, start.source)
    trainer = instantiate(
        cfg.trainer,
        precision=resolve_precision(str(cfg.trainer.precision)),
        default_root_dir=cfg.run_dir,
        callbacks=[callback(c, evaluator) for c in cfg.callbacks.values() if c],
        logger=[instantiate(c) for c in cfg.logger.values() if c],
    )
    module = instantiate(cfg.module)(
        codec,
        instantiate(cfg.loss),
        net=instantiate(cfg.optimizer.net),
        aux=instantiate(cfg.optimizer.aux),
        scheduler=instantiate(cfg.scheduler),
        freeze=list(cfg.freeze),
        lr_scale=scale_to_ranks(cfg.ranks, data, trainer),
    )
    return Experiment(data, module, trainer, evaluator, cfg.model)


def fresh_codec(overrides: Sequence[str]) -> Codec:
    """The codec that a run with these overrides would begin with, in eval mode with tables.

    Raises:
        SettingError: a setting of the model is of a wrong type or out of its range.
    """
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = hydra_compose("train", list(overrides))
    check_settings(cfg.model, "model")
    torch.manual_seed(cfg.seed)
    return ready_copy(instantiate(cfg.model))


def callback(node: DictConfig, evaluator: Evaluator) -> pl.Callback:
    """One callback; a ``_partial_`` one evaluates, and is given the run's evaluator."""
    made = instantiate(node)
    return made(evaluator=evaluator) if isinstance(made, partial) else made


def scale_to_ranks(ranks: DictConfig, data: Any, trainer: pl.Trainer) -> float:
    """Give ``data`` the batch size of one rank; what to multiply the learning rates by.

    Raises:
        TrainingError: a batch that the ranks cannot share, or a word that is no choice.
    """
    world_size = int(trainer.world_size)
    growth = {"none": lambda n: 1.0, "linear": float, "sqrt": math.sqrt}
    if ranks.batch_size not in ("each", "total"):
        raise TrainingError(f"ranks.batch_size is {ranks.batch_size!r}, not 'each' or 'total'")
    if ranks.lr not in growth:
        raise TrainingError(f"ranks.lr is {ranks.lr!r}, not one of {', '.join(growth)}")
    if ranks.batch_size == "each":
        return growth[ranks.lr](world_size)
    if data.batch_size % world_size:
        raise TrainingError(
            f"{world_size} ranks cannot share batches of {data.batch_size} equally: make "
            "data.batch_size a multiple, or say ranks.batch_size=each"
        )
    data.batch_size //= world_size
    return 1.0


def build_data(overrides: Sequence[str]) -> Any:
    """The data module that training with these overrides would have. A first word without "=" is
    the choice of ``data``."""
    words = [f"data={word}" if "=" not in word else word for word in overrides[:1]]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = hydra_compose("train", [*words, *overrides[1:]])
    return instantiate_data(cfg.data)


SETTINGS = {"name", "root", "eval_root", "crop_size", "longest_side", "frames", "kind", "streamed"}
"""Keys of ``data`` that its nodes and the run refer to: ``data.root=FOLDER`` suffices."""


def instantiate_data(node: DictConfig) -> Any:
    """The data module of ``conf/data``: its own arguments, beside the settings they refer to.

    Raises:
        DataError: a setting that neither the data module nor any other setting takes.
    """
    taken = set(inspect.signature(get_class(str(node._target_))).parameters)
    settings: Any = OmegaConf.to_container(node, resolve=True)
    check_settings(node, "data")
    known = {"_target_", *taken, *SETTINGS}
    if unknown := [key for key in settings if key not in known]:
        names = ", ".join(sorted(known & {*settings} - {"_target_"}))
        raise DataError(f"there is no setting data.{unknown[0]} for this data: there are {names}")
    return instantiate({key: settings[key] for key in settings if key in {"_target_", *taken}})


def resolve_precision(precision: str) -> str:
    """ "auto" is bf16 where the processor or GPU computes in it, else float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16-mixed" if native else "32-true"
