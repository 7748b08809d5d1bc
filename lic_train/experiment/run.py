"""A run: train, export, code the evaluation images to files, conclude."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger

from lic_train.callbacks import checkpoints
from lic_train.callbacks.checkpoints import newest_checkpoint
from lic_train.callbacks.stopping import Stopped, requeue
from lic_train.codec import Codec
from lic_train.codec.cost import cost
from lic_train.codec.export import ready_copy, save_codec
from lic_train.errors import LicError
from lic_train.evaluation.evaluate import conclude
from lic_train.evaluation.results import Labels
from lic_train.experiment import naming
from lic_train.experiment.build import Experiment, build
from lic_train.experiment.run_folder import claimed
from lic_train.experiment.unused import check_added
from lic_train.loggers.results import log_results
from lic_train.rd.headline import headline
from lic_train.report.write import write_report
from lic_train.runs.record import write_about
from lic_train.utils.configs import typed
from lic_train.utils.environment import environment
from lic_train.utils.ranks import Leaving


def run(cfg: DictConfig) -> Path:
    """Train, export, code the evaluation images to files, report. Returns the run directory.

    A run directory that holds ``checkpoints/last.ckpt`` of the same settings is resumed.

    Raises:
        LicError: what the user has to change, one line.
    """
    with claimed(cfg) as run_dir:
        return _run(cfg, run_dir)


def _run(cfg: DictConfig, run_dir: Path) -> Path:
    check_added(cfg, naming.overrides())
    differs = naming.name_run(cfg, run_dir)
    if (run_dir.parent / "sweep.json").is_file():  # W&B shows the points of a sweep as one group
        os.environ.setdefault("WANDB_RUN_GROUP", "/".join(run_dir.parent.parts[-2:]))
    experiment = build(cfg)
    trainer = experiment.trainer
    start = newest_checkpoint(start_of(run_dir), experiment.module)
    try:
        if trainer.is_global_zero:
            (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
            announce(experiment, cfg, run_dir)
            (run_dir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
            write_about(run_dir, str(cfg.title), str(cfg.name), differs)
            settings: Any = OmegaConf.to_container(cfg, resolve=True)
            for logger in trainer.loggers:
                logger.log_hyperparams(settings)
        train(experiment, start)
        if trainer.is_global_zero:
            export(cfg, experiment, run_dir)
        trainer.strategy.barrier()  # what was exported is there, for every rank
        labels = Labels(naming.dataset_name(cfg), str(cfg.name), lmbda_of(cfg, experiment))
        signals = experiment.data.signals()
        points = experiment.evaluator.evaluate(run_dir, signals, labels, run_dir).points
        if trainer.is_global_zero:
            name, step = str(cfg.name), trainer.global_step
            numbers = headline(points, name, "rd")
            log_results(trainer.loggers, points, name, numbers, run_dir, step)
            if cfg.report:
                report(run_dir, str(cfg.title))
            conclude(points, name, run_dir)
    except KeyboardInterrupt:
        if trainer.is_global_zero and start_of(run_dir).is_file():
            print(f"lic_train: {again(run_dir)} from its last checkpoint", file=sys.stderr)
        raise
    except Stopped as stop:
        queued = requeue() if stop.signum == signal.SIGUSR1 else ""
        line = f"lic_train: stopped by {stop.signum.name} after batch {stop.step}; {again(run_dir)}"
        print("; ".join(filter(None, (queued, line))), file=sys.stderr)
        raise
    finally:
        close(experiment.trainer.loggers)
    return run_dir


def start_of(run_dir: Path) -> Path:
    """The checkpoint that a run resumes from."""
    return run_dir / "checkpoints" / checkpoints.LAST


def again(run_dir: Path) -> str:
    """How a run is resumed, in words."""
    return f"the same command with {typed('hydra.run.dir', run_dir)} resumes it"


def report(run_dir: Path, title: str) -> None:
    """Write ``report.html`` of this run alone; a run whose report failed has finished all the
    same."""
    try:
        write_report([run_dir], run_dir / "report.html", title)
    except (LicError, OSError) as error:
        print(f"lic_train: no report: {error}", file=sys.stderr)


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
        **cost(codec),
    )
