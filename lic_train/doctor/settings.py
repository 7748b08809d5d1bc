"""What a config alone can tell: trade-off, schedule, machine, disk, W&B, launcher."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from lic_train.doctor.preflight import Finding, Preflight
from lic_train.utils.device import check_device

LAMBDAS = {"mse": (1e-4, 1.0), "ms_ssim": (0.5, 2000.0)}
"""What papers use, with room: CompressAI's are 0.0018-0.18 and 2.4-220."""


def trade_off(p: Preflight) -> Iterator[Finding]:
    """Whether lmbda is of the scale of its metric."""
    metric, lmbda = str(p.cfg.loss.get("metric", "")), float(p.cfg.lmbda)
    low, high = LAMBDAS.get(metric, (0.0, float("inf")))
    what = f"lmbda {lmbda:g} with {metric or 'its own loss'}"
    if low <= lmbda <= high:
        yield Finding("trade-off", what)
        return
    side = "below" if lmbda < low else "above"
    all_or_nothing = "nothing but rate" if lmbda < low else "nothing but distortion"
    yield Finding(
        "trade-off",
        f"{what} is {side} {low:g} ... {high:g}: {all_or_nothing} would count",
        "lmbda=0.0018 ... 0.18 with loss=mse (times 255^2 MSE), 2.4 ... 220 with loss=ms_ssim",
    )


def schedule(p: Preflight) -> Iterator[Finding]:
    """Whether what is planned happens before the run ends."""
    steps = int(p.cfg.trainer.max_steps)
    scheduler: Any = p.cfg.get("scheduler") or {}
    late = [m for m in scheduler.get("milestones") or [] if steps <= m]
    if late:
        fix = "set scheduler.milestones, or scheduler=cosine"
        yield Finding("schedule", f"milestone {late[0]} is not before batch {steps}, the end", fix)
    elif scheduler.get("warmup", 0) > steps // 2:
        said = f"{scheduler.warmup} batches of warm-up in a run of {steps}: half of it at most"
        yield Finding("schedule", said, f"scheduler.warmup={steps // 20}")
    else:
        yield Finding("schedule", f"{steps} batches")
    interval = p.cfg.trainer.get("val_check_interval")
    if isinstance(interval, int) and interval > steps:
        said = f"every {interval} batches, but the run has {steps}: never, and no best.ckpt"
        yield Finding("validation", said, f"trainer.val_check_interval={max(1, steps // 10)}")
    if not p.cfg.callbacks.get("checkpoint"):
        yield Finding("checkpoints", "none are written: a kill loses all", "callbacks=default")


def precision(p: Preflight) -> Iterator[Finding]:
    """Whether weights and likelihoods stay float32."""
    asked = str(p.cfg.trainer.precision)
    if asked in ("auto", "bf16-mixed", "32-true", "32"):
        yield Finding("precision", asked)
    elif asked.startswith("16"):
        said = f"{asked}: float16 overflows in these networks, and its gradient scale skips steps"
        yield Finding("precision", said, "trainer.precision=auto")
    else:
        said = f"{asked}: the weights themselves would not be float32"
        yield Finding("precision", said, "trainer.precision=auto")


def run_folder(p: Preflight) -> Iterator[Finding]:
    """Whether the run can write where it wants to."""
    folder = p.run_dir
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        yield Finding("run folder", str(p.run_dir))
    else:
        why = "may not be written" if folder.is_dir() else "is a file, not a folder"
        yield Finding("run folder", f"{folder} {why}", "hydra.run.dir=FOLDER")


def wandb(p: Preflight) -> Iterator[Finding]:
    """Whether Weights & Biases would ask for a login when nobody is there to answer."""
    logger: Any = p.cfg.logger.get("wandb")
    if not logger:
        return
    offline = logger.get("offline") or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if offline or os.environ.get("WANDB_MODE") == "disabled":
        yield Finding("W&B", "offline: wandb sync later")
        return
    import wandb  # a second that only its users should wait for

    if wandb.api.api_key:
        yield Finding("W&B", "online, logged in")
    else:
        fix = "wandb login, or logger.wandb.offline=true"
        yield Finding("W&B", "online, but nobody is logged in here", fix)


def evaluation(p: Preflight) -> Iterator[Finding]:
    """Whether the device that codes the images in the end is there."""
    device = str(p.cfg.evaluation.device)
    check_device(device)
    yield Finding("evaluation", f"on {device}")


def launcher(p: Preflight) -> Iterator[Finding]:
    """Whether what is to start the jobs of a sweep is installed."""
    choice = str(p.choices.get("hydra/launcher") or "basic")
    target = str(p.hydra.launcher.get("_target_", "")) if p.hydra is not None else ""
    package = target.partition(".")[0]
    if package and find_spec(package) is None:
        fix = f"install the package of hydra/launcher={choice}"
        yield Finding("launcher", f"{choice} needs {package}, which is not installed", fix)
    elif "slurm" in choice and shutil.which("sbatch") is None:
        fix = "start this on a node of the cluster, or leave hydra/launcher out"
        yield Finding("launcher", f"{choice} needs sbatch, which is not here", fix)
    elif choice != "basic":
        yield Finding("launcher", choice)


def slurm(p: Preflight) -> Iterator[Finding]:
    """Whether Slurm started as many tasks as the run has ranks."""
    tasks, trainer = os.environ.get("SLURM_NTASKS"), p.cfg.trainer
    devices = trainer.get("devices")
    if tasks is None or not isinstance(devices, int) or devices < 1:
        return
    ranks = devices * int(trainer.get("num_nodes", 1))
    if int(tasks) != ranks:
        fix = f"sbatch --ntasks={ranks}, or trainer.devices and trainer.num_nodes to match"
        yield Finding("Slurm", f"{tasks} tasks for {ranks} ranks", fix)
