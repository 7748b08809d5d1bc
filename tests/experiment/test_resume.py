"""A run that was killed and resumed is the uninterrupted run: weights, losses, validation, rows."""

from __future__ import annotations

import csv
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.resuming import outcome, wait_for
from helpers.zoo import REPOSITORY, SHRUNK_EDIC, Zoo
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from torch import Tensor
from torch.optim import Adam

from lic_train.callbacks.checkpoints import BEST, LAST, PREVIOUS, Checkpoints
from lic_train.callbacks.stopping import Stopped, requeue
from lic_train.data.datamodule import ImageDataModule
from lic_train.data.sources import Samples
from lic_train.data.transforms import RandomResizedCrop
from lic_train.errors import TrainingError
from lic_train.loggers.csv_log import CSVLog
from lic_train.modules.codec_module import CodecModule
from lic_train.training.loss import RateDistortionLoss
from lic_train.training.muon import muon_and_adam
from lic_train.training.schedules import warmup_cosine

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 8


class Diary(Callback):
    """Loss, learning rate and validation loss of each step, over all lives of a run."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.in_validation: Callable[[], Any] | None = None
        self.losses: dict[int, float] = {}
        self.rates: dict[int, float] = {}
        self.validations: dict[int, float] = {}

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.kill_at:
            raise ZeroDivisionError  # as good as SIGKILL: nothing is saved on the way out

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.losses[trainer.global_step] = outputs["loss"].item()
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_batch_start(self, *_: Any) -> None:
        if self.in_validation:
            self.in_validation()

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        self.validations[trainer.global_step] = trainer.callback_metrics["val/loss"].item()


def train(zoo: Zoo, stem: str, folder: Path, diary: Diary, ema: bool) -> dict[str, Tensor]:
    """Train ``STEPS`` batches from the start or from what is in ``folder``; the weights."""
    torch.manual_seed(len(diary.losses))  # a new process begins with another state of this
    photos = Samples("train", limit=2)
    data = ImageDataModule(photos, photos, RandomResizedCrop(64), batch_size=2, eval_crop=64)
    module = CodecModule(
        zoo.build(stem),
        RateDistortionLoss(0.01),
        net=partial(muon_and_adam, lr=1e-3),
        aux=partial(Adam, lr=1e-2),
        scheduler=partial(warmup_cosine, steps=STEPS, warmup=2),
        seed=3,
    )
    callbacks: list[Callback] = [diary, Checkpoints(folder, every_n_steps=2)]
    trainer = pl.Trainer(
        max_steps=STEPS,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        devices=1,
        callbacks=[*callbacks, EMAWeightAveraging(decay=0.9)] if ema else callbacks,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=CSVLog(folder / "log"),
        log_every_n_steps=1,
        **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False),
    )
    start = folder / LAST
    trainer.fit(module, datamodule=data, ckpt_path=start if start.exists() else None)
    return module.state_dict()


def log(folder: Path) -> list[dict[str, str]]:
    with CSVLog(folder / "log").path.open(newline="") as file:
        return list(csv.DictReader(file))


STEMS = [("edic", False), ("joint_prior", False), ("edic", True), ("rnn", False)]


@pytest.mark.parametrize("stem, ema", STEMS)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    stem: str, ema: bool, zoo: Zoo, tmp_path: Path
) -> None:
    unbroken = Diary()
    weights = train(zoo, stem, tmp_path / "unbroken", unbroken, ema)
    assert list(unbroken.losses) == list(range(1, STEPS + 1)) and len(unbroken.validations) == 2
    assert len(set(unbroken.losses.values())) == STEPS
    for kills in ([1], [3], [4, 7], [5, 6]):
        folder, diary = tmp_path / str(kills), Diary()
        for kill_at in kills:
            diary.kill_at = kill_at
            with pytest.raises(ZeroDivisionError):
                train(zoo, stem, folder, diary, ema)
        diary.kill_at = None
        again = train(zoo, stem, folder, diary, ema)
        assert diary.losses == unbroken.losses
        assert diary.rates == unbroken.rates
        assert diary.validations == unbroken.validations
        assert log(folder) == log(tmp_path / "unbroken")
        assert [name for name in weights if not torch.equal(weights[name], again[name])] == []
        best = [torch.load(f / BEST, weights_only=True) for f in (folder, tmp_path / "unbroken")]
        assert best[0]["global_step"] == best[1]["global_step"]


def test_the_log_has_every_batch_once_and_in_order(zoo: Zoo, tmp_path: Path) -> None:
    train(zoo, "mean_scale", tmp_path, Diary(), ema=False)
    rows = log(tmp_path)
    assert [int(r["step"]) for r in rows if r["train/loss"]] == list(range(STEPS))
    assert [int(r["step"]) for r in rows if r["val/loss"]] == [2, 5]
    assert [int(r["step"]) for r in rows] == sorted(int(r["step"]) for r in rows)


def test_a_log_that_was_cut_short_loses_the_half_row(tmp_path: Path) -> None:
    whole = CSVLog(tmp_path)
    for step in range(3):
        whole.log_metrics({"a": 0.1 + step}, step)
    whole.log_metrics({"a": 2.1}, 2)  # given twice
    text = whole.path.read_text()
    assert text == "a,step\n0.1,0\n1.1,1\n2.1,2\n"
    whole.path.write_text(text[:-2])
    again = CSVLog(tmp_path)
    again.log_metrics({"a": 2.1, "b": 7}, 2)
    assert whole.path.read_text() == "a,b,step\n0.1,,0\n1.1,,1\n2.1,7,2\n"
    again.go_on_from(1)
    assert whole.path.read_text() == "a,step\n0.1,0\n"


def test_stopped_in_a_validation(zoo: Zoo, tmp_path: Path) -> None:
    """By SIGKILL, as good as an error, SIGTERM or Ctrl-C: it is done again, and nothing else is."""
    unbroken = Diary()
    weights = train(zoo, "mean_scale", tmp_path / "unbroken", unbroken, ema=True)
    ends: list[tuple[Callable[[], Any], type[BaseException]]] = [
        (lambda: 1 / 0, ZeroDivisionError),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), Stopped),
        (lambda: os.kill(os.getpid(), signal.SIGINT), Stopped),
    ]
    for number, (end, error) in enumerate(ends):
        folder, diary = tmp_path / str(number), Diary()
        diary.in_validation = end
        with pytest.raises(error) as caught:
            train(zoo, "mean_scale", folder, diary, ema=True)
        assert list(diary.losses) == [1, 2, 3] and diary.validations == {}
        if isinstance(caught.value, Stopped):
            code = 130 if caught.value.signum == signal.SIGINT else 143
            assert (caught.value.code, caught.value.step) == (code, 3)
        diary.in_validation = None
        again = train(zoo, "mean_scale", folder, diary, ema=True)
        assert diary.losses == unbroken.losses and diary.validations == unbroken.validations
        assert log(folder) == log(tmp_path / "unbroken")
        assert [name for name in weights if not torch.equal(weights[name], again[name])] == []


def test_a_full_disk_leaves_the_last_checkpoint_whole(zoo: Zoo, tmp_path: Path) -> None:
    """Of files that may not grow the system says the same as of a disk that is full."""
    unbroken, diary = Diary(), Diary()
    weights = train(zoo, "mean_scale", tmp_path / "unbroken", unbroken, ema=False)
    folder, limits = tmp_path / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    diary.in_validation = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot be written \(.+\) after batch 3.*room"):
            train(zoo, "mean_scale", folder, diary, ema=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in folder.iterdir()} == {LAST, PREVIOUS, "log"}
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 3
    diary.in_validation = None
    again = train(zoo, "mean_scale", folder, diary, ema=False)
    assert [name for name in weights if not torch.equal(weights[name], again[name])] == []
    assert diary.losses == unbroken.losses and log(folder) == log(tmp_path / "unbroken")


def test_slurm_queues_a_warned_job_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert requeue() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "17 could not be queued again" in requeue()
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    assert requeue() == "Slurm job 17 is queued again"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "20")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue()
    assert (tmp_path / "asked").read_text() == "requeue 17\nrequeue 20_3\n"


def test_the_last_two_are_kept_and_nothing_half_written(zoo: Zoo, tmp_path: Path) -> None:
    train(zoo, "edic", tmp_path, Diary(), ema=False)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {LAST, PREVIOUS, BEST}
    steps = {p.name: torch.load(p, weights_only=True)["global_step"] for p in files}
    assert steps[LAST] == 8 and steps[PREVIOUS] == 6 and steps[BEST] in (3, 6)


# --- the command


def command(run: Path, *more: str) -> list[str]:
    overrides = [
        "experiment=edic_gmm",
        "debug=fast",
        "data.crop_size=64",
        "data.eval_crop=64",
        "trainer.max_steps=60",
        "trainer.val_check_interval=20",
        "callbacks.checkpoint.every_n_steps=3",
        "logger=csv",
        f"hydra.run.dir={run}",
        *SHRUNK_EDIC,
    ]
    return [sys.executable, "-m", "lic_train", *overrides, *more]


def start(run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(run),
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run: Path) -> str:
    process = start(run)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return errors


def test_kill_9_sigterm_and_a_damaged_checkpoint(tmp_path: Path) -> None:
    """One run that meets all three, against one that meets none."""
    calm, harried = tmp_path / "calm", tmp_path / "harried"
    finish(calm)
    checkpoints = harried / "checkpoints"

    first = start(harried)
    wait_for(checkpoints / PREVIOUS)
    first.kill()
    first.communicate()
    (checkpoints / LAST).write_bytes((checkpoints / LAST).read_bytes()[:-1000])

    second = start(harried)
    wait_for(checkpoints / BEST)
    second.send_signal(signal.SIGTERM)
    said, errors = second.communicate(timeout=300)
    assert re.search(r"train  resumes after batch \d+ of", said)
    assert second.returncode == 143, errors[-3000:]
    assert "resuming from previous.ckpt at step" in errors
    assert "hydra.run.dir" in errors.strip().splitlines()[-1]
    assert not (harried / "model.safetensors").exists()

    finish(harried)
    assert outcome(harried) == outcome(calm)
    last = [torch.load(run / "checkpoints" / LAST, weights_only=True) for run in (calm, harried)]
    assert all(
        torch.equal(last[0]["state_dict"][name], tensor)
        for name, tensor in last[1]["state_dict"].items()
    )
