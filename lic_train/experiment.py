"""From a config to a finished run: the only file that reads ``cfg``."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.loggers import WandbLogger

from lic_train.anchors import choose
from lic_train.callbacks import checkpoints
from lic_train.callbacks.loggers import log_results
from lic_train.callbacks.stopping import Stopped, requeue
from lic_train.codec import Codec
from lic_train.configs import config_dir
from lic_train.environment import environment
from lic_train.errors import ModelError, TrainingError
from lic_train.export import check_device, load_weights, ready_copy, save_codec
from lic_train.judge import conclude, judge
from lic_train.modules.codec_module import CodecModule
from lic_train.perceptual import distances
from lic_train.ranks import Leaving
from lic_train.report.headline import headline


@dataclass
class Experiment:
    """The objects of one run, built from its config."""

    data: Any
    module: CodecModule
    trainer: pl.Trainer
    model_config: DictConfig


def compose(overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """The config of ``python -m lic_train OVERRIDES``, and Hydra's own, without starting a run."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = hydra_compose("train", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        hydra = cfg.hydra
        HydraConfig.instance().set_config(copy.deepcopy(cfg))
        cfg.run_dir = str(Path(HydraConfig.get().run.dir).absolute())
        del cfg["hydra"]
    return cfg, hydra


def build(cfg: DictConfig) -> Experiment:
    """Instantiate data, codec, module and trainer; every key is a constructor argument."""
    try:
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"seed={cfg.seed} cannot be used: {error}") from None
    data = instantiate(cfg.data)
    codec = instantiate(cfg.model)
    for part, run_dir in cfg.init_from.items():
        if run_dir is None:
            key = f"init_from.{part}"
            raise ModelError(f"{key} is not given: add {key}=RUN, the folder of a finished run")
        name = "" if part == "all" else str(part)  # what a command line cannot write
        load_weights(codec.part(name), Path(str(run_dir)), name)
    trainer = instantiate(
        cfg.trainer,
        precision=resolve_precision(str(cfg.trainer.precision)),
        default_root_dir=cfg.run_dir,
        callbacks=[instantiate(c) for c in cfg.callbacks.values() if c],
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
    return Experiment(data, module, trainer, cfg.model)


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
        return instantiate(hydra_compose("train", [*words, *overrides[1:]]).data)


def resolve_precision(precision: str) -> str:
    """ "auto" is bf16 where the processor or GPU computes in it, else float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16-mixed" if native else "32-true"


def run(cfg: DictConfig) -> Path:
    """Train, export, code the evaluation images to files, report. Returns the run directory.

    A run directory that holds ``checkpoints/last.ckpt`` is gone on with.
    """
    check_device(cfg.evaluation.device)
    choose(cfg.evaluation.anchors)
    distances(cfg.evaluation.perceptual)
    run_dir = Path(cfg.run_dir).resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    if (run_dir.parent / "sweep.json").is_file():  # W&B shows the points of a sweep as one group
        os.environ.setdefault("WANDB_RUN_GROUP", "/".join(run_dir.parent.parts[-2:]))
    experiment = build(cfg)
    trainer = experiment.trainer
    start = newest_checkpoint(run_dir / "checkpoints" / checkpoints.LAST, experiment.module)
    try:
        if trainer.is_global_zero:
            (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
            announce(experiment, cfg, run_dir)
            (run_dir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            for logger in trainer.loggers:
                logger.log_hyperparams(settings)
        train(experiment, start)
        if trainer.is_global_zero:
            export(cfg, experiment, run_dir)
        trainer.strategy.barrier()  # what was exported is there, for every rank
        points = judge(
            run_dir,
            experiment.data.signals(),
            out_dir=run_dir,
            dataset=dataset_name(cfg),
            name=str(cfg.name),
            lmbda=lmbda_of(cfg, experiment),
            save_images=cfg.evaluation.save_images,
            device=cfg.evaluation.device,
            anchors=cfg.evaluation.anchors,
            perceptual=cfg.evaluation.perceptual,
        )
        if trainer.is_global_zero:
            name, step = str(cfg.name), trainer.global_step
            numbers = headline(points, name, "rd")
            log_results(trainer.loggers, points, name, numbers, run_dir, step)
            conclude(points, str(cfg.name), run_dir)
    except Stopped as stop:
        again = f"the same command with hydra.run.dir={run_dir} goes on"
        queued = requeue() if stop.signum == signal.SIGUSR1 else ""
        line = f"lic_train: stopped by {stop.signum.name} after batch {stop.step}; {again}"
        print("; ".join(filter(None, (queued, line))), file=sys.stderr)
        raise
    finally:
        close(experiment.trainer.loggers)
    return run_dir


def close(loggers: list[Any]) -> None:
    """W&B keeps one run open per process: the next job of a sweep would log into this one."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb  # a second that only its users should wait for

        wandb.finish()


def fit(experiment: Experiment, last: Path) -> None:
    """Train from the start or from ``last``; the callbacks leave the final state in ``last``.

    Raises:
        ModelError: ``last`` is of another model, or it and the one before are damaged.
    """
    train(experiment, newest_checkpoint(last, experiment.module))


def train(experiment: Experiment, start: Path | None) -> None:
    """Train from the start or from a whole checkpoint."""
    try:
        experiment.trainer.fit(
            experiment.module,
            datamodule=experiment.data,
            ckpt_path=str(start) if start else None,
            weights_only=True,
        )
    except SystemExit as error:
        if experiment.trainer.interrupted and not isinstance(error, Stopped | Leaving):
            raise KeyboardInterrupt from None  # what Lightning made an exit with 1 of
        raise


def newest_checkpoint(last: Path, module: CodecModule) -> Path | None:
    """``last``, or the one before where ``last`` is damaged; None where there is neither.

    Looks before the trainer does: its own errors fill a screen.
    """
    advice = "give another hydra.run.dir, or delete it to start anew"
    damaged = ""
    for path in (last, last.with_name(checkpoints.PREVIOUS)):
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
            print(f"{damaged}: going on from {path.name} at step {step}", file=sys.stderr)
        return path
    if damaged:
        raise ModelError(f"{damaged}: {advice}")
    return None


def announce(experiment: Experiment, cfg: DictConfig, run_dir: Path) -> None:
    """Three lines that say what is about to happen."""
    codec = experiment.module.codec
    parameters = sum(p.numel() for p in codec.parameters()) / 1e6
    data, trainer = experiment.data, experiment.trainer
    print(f"codec  {cfg.name}: {type(codec).__name__}, {parameters:.2f} M parameters", end="")
    lmbda = "" if codec.own_lmbda else f" lmbda {cfg.lmbda:g},"
    print(f",{lmbda} {cfg.loss.get('metric', '')}")
    print(f"data   {data.describe()}")
    print(
        f"train  {trainer.max_steps} batches of {data.batch_size}, {trainer.precision} on "
        f"{trainer.num_devices} x {trainer.accelerator.name()}, into {run_dir}",
        flush=True,
    )


def lmbda_of(cfg: DictConfig, experiment: Experiment) -> float | None:
    """What tables say of the run's trade-off; None where the codec does not heed it."""
    return None if experiment.module.codec.own_lmbda else float(cfg.lmbda)


def dataset_name(cfg: DictConfig) -> str:
    """What the rows call the evaluation images: the config's choice, or their folder's name."""
    root = cfg.data.get("eval_root") or cfg.data.get("root")
    folder = Path(str(root)).resolve().name if root else "samples"
    return str(cfg.data.get("name") or folder)


def export(cfg: DictConfig, experiment: Experiment, run_dir: Path) -> Codec:
    """Write what decoding needs into the run directory."""
    codec = ready_copy(experiment.module.codec, experiment.module.solves_quantiles)
    return save_codec(
        run_dir,
        codec,
        experiment.model_config,
        name=str(cfg.name),
        lmbda=lmbda_of(cfg, experiment),
        metric=str(cfg.loss.get("metric", "")),
        steps=experiment.trainer.global_step,
    )
