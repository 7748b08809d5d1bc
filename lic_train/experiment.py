"""From a config to a finished run: the only file that reads ``cfg``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console

from lic_train.anchors import JPEG, choose
from lic_train.callbacks import checkpoints
from lic_train.codec import Codec
from lic_train.configs import config_dir
from lic_train.decoder_process import DecoderProcess
from lic_train.errors import ModelError, TrainingError
from lic_train.evaluation import RDPoint, evaluate, write_csv, write_summary
from lic_train.export import check_device, load_codec, load_weights, ready_copy, save_codec
from lic_train.ladder import anchor_rows, cache_folder, write_record
from lic_train.modules.codec_module import CodecModule
from lic_train.rate_gap import RateGap, describe
from lic_train.report.figures import rd_curve_figure
from lic_train.report.table import print_table, results_table


@dataclass
class Experiment:
    """The objects of one run, built from its config."""

    data: Any
    module: CodecModule
    trainer: pl.Trainer
    model_config: DictConfig


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
    module = instantiate(cfg.module)(
        codec,
        instantiate(cfg.loss),
        net=instantiate(cfg.optimizer.net),
        aux=instantiate(cfg.optimizer.aux),
        scheduler=instantiate(cfg.scheduler),
        freeze=list(cfg.freeze),
    )
    trainer = instantiate(
        cfg.trainer,
        precision=resolve_precision(str(cfg.trainer.precision)),
        default_root_dir=cfg.run_dir,
        callbacks=[instantiate(c) for c in cfg.callbacks.values() if c],
        logger=[instantiate(c) for c in cfg.logger.values() if c],
    )
    return Experiment(data, module, trainer, cfg.model)


def build_data(overrides: Sequence[str]) -> Any:
    """The data module that training with these overrides would have. A first word without "=" is
    the choice of ``data``."""
    words = [f"data={word}" if "=" not in word else word for word in overrides[:1]]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        return instantiate(compose("train", [*words, *overrides[1:]]).data)


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
    run_dir = Path(cfg.run_dir).resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    experiment = build(cfg)
    try:
        if experiment.trainer.is_global_zero:
            announce(experiment, cfg, run_dir)
        fit(experiment, run_dir / "checkpoints" / "last.ckpt")
        if experiment.trainer.is_global_zero:
            export(cfg, experiment, run_dir)
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
            )
            for logger in experiment.trainer.loggers:
                logger.log_metrics(headline(points, str(cfg.name)), experiment.trainer.global_step)
                logger.finalize("success")
            conclude(points, str(cfg.name), run_dir)
    except SIGTERMException:
        step = experiment.trainer.global_step
        again = f"the same command with hydra.run.dir={run_dir} goes on"
        print(f"lic_train: stopped by SIGTERM after batch {step}; {again}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    finally:
        close(experiment.trainer.loggers)
    return run_dir


def close(loggers: list[Any]) -> None:
    """W&B keeps one run open per process: the next job of a sweep would log into this one."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb  # a second that only its users should wait for

        wandb.finish()


def fit(experiment: Experiment, last: Path) -> None:
    """Train from the start or from ``last``, and leave the final state in ``last``.

    Raises:
        ModelError: ``last`` is of another model, or it and the one before are damaged.
    """
    start = newest_checkpoint(last, experiment.module)
    try:
        experiment.trainer.fit(
            experiment.module,
            datamodule=experiment.data,
            ckpt_path=str(start) if start else None,
            weights_only=True,
        )
    except SystemExit as error:
        if experiment.trainer.interrupted and not isinstance(error, SIGTERMException):
            raise KeyboardInterrupt from None  # what Lightning made an exit with 1 of
        raise
    checkpoints.save(experiment.trainer, last)


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
        if damaged:
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


def judge(
    model_dir: Path,
    signals: Any,
    *,
    out_dir: Path,
    dataset: str,
    name: str,
    lmbda: float | None,
    save_images: int = 3,
    device: str = "cpu",
    overrides: Sequence[str] = (),
    anchors: Sequence[str] = (JPEG.name,),
) -> list[RDPoint]:
    """Code ``signals`` with an exported model, decode the files in another process, add the
    anchors, and write ``rd_points.csv``, ``rd_summary.json``, ``rate_gap.csv``, ``anchors.json``,
    ``figures/rd_curve.png``, bitstreams and reconstructions into ``out_dir``. ``overrides`` are the
    encoder's alone: a stream tells its decoder all it must know."""
    console = Console(stderr=True)
    chosen = choose(anchors)
    gaps: list[RateGap] = []
    codec = load_codec(model_dir, device, overrides)
    with (
        console.status(f"coding {len(signals)} images of {dataset} to files"),
        DecoderProcess(model_dir, device) as decoder,
    ):
        points = evaluate(
            codec,
            signals,
            dataset=dataset,
            name=name,
            lmbda=lmbda,
            out_dir=out_dir,
            decoder=decoder,
            device=device,
            save_images=save_images,
            gaps=gaps,
        )
    print(describe(gaps), flush=True)
    with console.status(f"coding them as {', '.join(anchor.title for anchor in chosen)}"):
        rows, missing = anchor_rows(chosen, signals, dataset, cache=cache_folder())
    points += rows
    for why in missing.values():
        print(f"lic_train: {why}", file=sys.stderr)
    write_record(chosen, missing, out_dir / "anchors.json")
    write_csv(points, out_dir / "rd_points.csv")
    write_summary(points, out_dir / "rd_summary.json")
    write_csv(gaps, out_dir / "rate_gap.csv", RateGap)
    figures = out_dir / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rd_curve_figure(points, figures / "rd_curve.png")
    return points


def headline(points: list[RDPoint], name: str) -> dict[str, float]:
    """Means over the images at the finest rate, for loggers."""
    own = [p for p in points if p.codec == name]
    finest = [p for p in own if p.rate == max(q.rate for q in own)]
    keys = ("bpp", "bpp_estimated", "psnr", "ms_ssim")
    return {f"rd/{k}": sum(getattr(p, k) for p in finest) / len(finest) for k in keys}


def conclude(points: list[RDPoint], name: str, run_dir: Path) -> None:
    """The last lines a command prints: the table, then where everything is."""
    print_table(results_table(points, name))
    print(run_dir)
