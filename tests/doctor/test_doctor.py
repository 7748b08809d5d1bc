"""Faults are named before a long run, and what is shipped raises no alarm."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.zoo import shrink
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from lic_train.cli import _main as cli
from lic_train.data.datamodule import ImageDataModule
from lic_train.doctor.examine import examine
from lic_train.experiment import build
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.utils.configs import config_dir

pytestmark = pytest.mark.filterwarnings("ignore")
EXPERIMENTS = sorted(path.stem for path in (Path(config_dir()) / "experiment").glob("*.yaml"))
SMALL = [
    *("experiment=mean_scale", "model.N=8", "model.M=16", "model.start=random"),
    "trainer.accelerator=cpu",
    *("data.crop_size=64", "data.late_scale=4", "data.batch_size=2"),
]
FOLDER = ["data=image_folder", "data.root=photos"]


class Unscaled(ImageDataModule):
    """Forgets to divide by 255."""

    def train_dataloader(self) -> Any:
        return [b._replace(x=b.x.float()) for b, _ in zip(super().train_dataloader(), [0])]  # noqa: B905


class Forgetful(MeanScale):
    """Has a part that nothing uses."""

    def __init__(self, N: int, M: int, **others: Any) -> None:
        super().__init__(N, M, **others)
        self.unused = nn.Linear(2, 2)


class Broken(MeanScale):
    """Has weights that are no numbers."""

    def __init__(self, N: int, M: int, **others: Any) -> None:
        super().__init__(N, M, **others)
        nn.init.constant_(self.g_a[0].weight, math.nan)


class Explosive(MeanScale):
    """Gives images that are no numbers."""

    def synthesise(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        return super().synthesise(y_hat, height, width) * math.inf


class Loud(MeanScale):
    """Has latents that no table covers."""

    def analyse(self, x: Tensor) -> Tensor:
        return super().analyse(x) + 1e6


def photo(path: Path, seed: int, side: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side)).save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder of photographs."""
    monkeypatch.chdir(tmp_path)
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "SLURM_NTASKS", "SLURM_JOB_ID"):
        monkeypatch.delenv(variable, raising=False)
    for i in range(6):
        photo(tmp_path / "photos" / f"{i}.png", i)
    return tmp_path


def corrupt(folder: Path, _: Any) -> None:
    (folder / "photos" / "1.png").write_bytes(b"no image")


def overlap(folder: Path, _: Any) -> None:
    shutil.copy(folder / "photos" / "0.png", folder / "photos" / "0 again.png")


def little(folder: Path, _: Any) -> None:
    for i in range(6):
        photo(folder / "photos" / f"{i}.png", i, side=40)


def black(folder: Path, _: Any) -> None:
    for i in range(6):
        Image.new("RGB", (200, 200)).save(folder / "photos" / f"{i}.png")


def a_file(folder: Path, _: Any) -> None:
    (folder / "taken").write_text("a file")


def junk(folder: Path, _: Any) -> None:
    (folder / "old" / "checkpoints").mkdir(parents=True)
    (folder / "old" / "checkpoints" / "last.ckpt").write_bytes(b"junk")


def no_login(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("HOME", str(folder))


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # interactive: Lightning takes no notice


def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def model(name: str) -> list[str]:
    return [f"model._target_=test_doctor.{name}"]


FAULTS: dict[str, tuple[list[str], Callable[[Path, Any], None] | None, str, str]] = {
    "another scale's lambda": (["lmbda=8192"], None, "trade-off", "lmbda=0.0018"),
    "late milestones": (["scheduler=multistep"], None, "schedule", "milestones"),
    "no validation": (["trainer.val_check_interval=9999"], None, "validation", "interval=120"),
    "no checkpoints": (["callbacks.checkpoint=null"], None, "checkpoints", "callbacks=default"),
    "float16": (["trainer.precision=bf16-true"], None, "precision", "precision=auto"),
    "run folder": (["hydra.run.dir=taken/run"], a_file, "run folder", "hydra.run.dir"),
    "no login": (["logger.wandb.offline=false"], no_login, "W&B", "wandb login"),
    "no launcher": (["hydra.launcher._target_=no.Such"], None, "launcher", "install"),
    "Slurm's tasks": ([], slurm, "Slurm", "ntasks=1"),
    "a typing error": (["data.bach_size=3"], None, "config", ""),
    "no folder": (["data=image_folder"], None, "config", ""),
    "odd batch": (
        ["trainer=ddp", "trainer.devices=2", "ranks.batch_size=total", "data.batch_size=3"],
        *(None, "config", ""),
    ),
    "no such device": (["evaluation.device=tpu"], None, "evaluation", ""),
    "an old run": (["hydra.run.dir=old"], junk, "start", ""),
    "a corrupt image": (FOLDER, corrupt, "images", "remove"),
    "trained and evaluated": (FOLDER, overlap, "overlap", "eval_root"),
    "small images": (FOLDER, little, "image sizes", "crop_size"),
    "black images": (FOLDER, black, "input", "look at"),
    "padded crops": (["data.crop_size=100"], None, "crops", "crop_size=128"),
    "borders": (["data.late_scale=2"], None, "crops", "late_scale=4, or data.crop_size=256"),
    "unscaled": (["data._target_=test_doctor.Unscaled"], None, "input", "scale"),
    "MS-SSIM": (["loss=ms_ssim", "lmbda=8", *FOLDER], little, "evaluation images", "loss=mse"),
    "an unused part": (model("Forgetful"), None, "gradients", "freeze"),
    "weights": (model("Broken"), None, "weights", "another run"),
    "loss": (model("Explosive"), None, "loss", "look at"),
    "tables": (model("Loud"), None, "tables", "solve"),
    "learning rate": (["optimizer.net.lr=3", "optimizer.net.adam_lr=3"], None, "learning rate", ""),
    "a part's learning rate": (["optimizer.net.lr=3"], None, "learning rate", ""),
    "disk": ([], full, "disk", "make room"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides, seed, what, fix = FAULTS[name]
    if seed is not None:
        seed(here, monkeypatch)
    before = sorted(here.rglob("*"))
    faults = [f for f in examine([*SMALL, *overrides]) if f.fault]
    assert what in {f.what for f in faults}, faults
    assert any(fix in f.fix and f.said for f in faults if f.what == what)
    assert sorted(here.rglob("*")) == before  # the doctor leaves nothing behind


def test_a_healthy_run_is_one_screen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["doctor", *SMALL, *FOLDER])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no faults" and 10 < len(lines) < 30
    assert all(line.startswith("v ") for line in lines[:-1])
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", *SMALL, "lmbda=8192"])
    lines = capsys.readouterr().out.splitlines()
    assert caught.value.code == 1 and lines[-1] == "1 fault"
    assert lines[0].startswith("x trade-off") and "-> lmbda=" in lines[1]


SHIPPED = [
    # At their shrunk size they differ from the small ones in settings alone.
    pytest.param(stem, marks=pytest.mark.slow if stem.endswith("_paper") else [])
    for stem in EXPERIMENTS
]


@pytest.mark.parametrize("stem", SHIPPED)
def test_what_is_shipped_raises_no_alarm(
    stem: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks and images shrunk, settings as they are."""
    compose = build.compose

    def shrunk(overrides: Any) -> tuple[DictConfig, DictConfig]:
        cfg, hydra = compose(overrides)
        shrink(cfg.model)
        if "late_scale" in cfg.data:
            cfg.data.late_scale *= max(
                1, cfg.data.crop_size // 64
            )  # as far from the borders as it is
        cfg.data.crop_size, cfg.data.batch_size, cfg.data.num_workers = 64, 2, 0
        cfg.trainer.accelerator = "cpu"
        if cfg.data.get("root", "") is None and "frames" not in cfg.data:
            cfg.data.root = "photos"
        if any(e.run is None for e in cfg.init_from.values()):  # there is no earlier run here
            cfg.init_from = {}
        return cfg, hydra

    monkeypatch.setattr(build, "compose", shrunk)
    torch.manual_seed(0)
    found = examine([f"experiment={stem}"])
    assert [f for f in found if f.fault] == []
    assert {"step", "gradients", "learning rate", "tables", "disk"} <= {f.what for f in found}
