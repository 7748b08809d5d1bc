"""What a run tells its loggers beyond numbers: pictures, RD table, curves, its exported model.

Names are the same for every run and every codec, so that one saved view compares them all:
``train/*``, ``val/*``, ``lr/*``, ``speed/*`` and ``memory/*`` over batches, ``live/*`` at every
look, ``rd/*`` of the finished run, and ``curve/*``, the finished run's operating points, over
``curve/bpp`` as their axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from lic_train.rd.curves import mean_curve
from lic_train.rd.points import RDPoint

EXPORT = ("model.safetensors", "model.yaml", "config.yaml", "rd_points.csv")
"""Files of a run that make up its artifact."""


def log_pictures(loggers: Sequence[Any], pictures: Mapping[str, Path], step: int) -> None:
    """Show PNG files in whichever loggers show pictures; others have them as files of the run."""
    for logger in loggers:
        for name, path in pictures.items():
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [str(path)], step)
            elif isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(name, pixels, step, dataformats="HWC")


def log_results(
    loggers: Sequence[Any],
    points: Sequence[RDPoint],
    name: str,
    numbers: Mapping[str, float],
    run_dir: Path,
    step: int,
) -> None:
    """Tell every logger how the run ended.

    Args:
        loggers: of the trainer.
        points: rows of the codec and of anchors.
        name: of the codec among them.
        numbers: what to log under ``rd/``, means over images.
        run_dir: holds the export and ``figures/*.png``.
        step: batches trained.
    """
    figures = sorted((run_dir / "figures").glob("*.png"))
    for logger in loggers:
        logger.log_metrics(dict(numbers), step)
    log_pictures(loggers, {f"figures/{path.stem}": path for path in figures}, step)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _tell_wandb(logger.experiment, points, name, run_dir)
        elif isinstance(logger, TensorBoardLogger):
            # Its page of settings and results knows no numbers but those it is given with them.
            logger.log_hyperparams(dict(logger.hparams), dict(numbers), step)
        logger.finalize("success")


def _tell_wandb(run: Any, points: Sequence[RDPoint], name: str, run_dir: Path) -> None:
    """The rows as a table, the curves as a plot, the operating points over bpp, the artifact."""
    import wandb  # a second that only its users should wait for

    columns: list[Any] = [field.name for field in fields(RDPoint)]
    table = wandb.Table(columns=columns, data=[list(astuple(point)) for point in points])
    curves = [mean_curve(points, codec) for codec in dict.fromkeys(p.codec for p in points)]
    plot = wandb.plot.line_series(
        xs=[list(map(float, curve.bpp)) for curve in curves],
        ys=[list(map(float, curve.psnr)) for curve in curves],
        keys=[curve.codec for curve in curves],
        title=f"PSNR (dB) over bits per pixel of files, {points[0].dataset}",
        xname="bpp",
    )
    run.log({"rd/points": table, "rd/curves": plot})
    run.define_metric("curve/bpp", hidden=True)
    run.define_metric("curve/*", step_metric="curve/bpp")
    own = mean_curve(points, name)
    values = zip(own.bpp, own.psnr, own.ms_ssim_mean_of_db, strict=True)
    for bpp, psnr, similarity in values:
        row = {"curve/bpp": bpp, "curve/psnr": psnr, "curve/ms_ssim_mean_of_db": similarity}
        run.log({key: float(value) for key, value in row.items() if np.isfinite(value)})
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata={"name": name})
    for file in EXPORT:
        if (run_dir / file).is_file():
            artifact.add_file(str(run_dir / file))
    run.log_artifact(artifact)
