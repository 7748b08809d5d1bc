"""One command ends in real files, and what they hold is what everything else says of them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers.wandb_file import WandbFile
from helpers.zoo import REPOSITORY, SHRUNK_EDIC
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from lic_train import __main__ as train
from lic_train.cli import _main as cli
from lic_train.data.io.images import read_image
from lic_train.data.sources import Samples
from lic_train.experiment.build import build
from lic_train.experiment.run import fit
from lic_train.runs import listing
from lic_train.utils.files import write_png

pytestmark = pytest.mark.filterwarnings("ignore")
OVERRIDES = [
    "experiment=edic_gmm",
    "debug=fast",
    "lmbda=0.0067",
    "data.crop_size=64",
    "data.eval_crop=64",
    *SHRUNK_EDIC,
]
COMMAND = [*OVERRIDES, "lmbda=0.005", "look_every=2"]
COLUMNS = (
    "dataset,image,codec,rate,lmbda,width,height,bytes,bpp,bpp_estimated,psnr,ms_ssim,"
    "encode_s,decode_s,device,lpips,dists"
)


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a user would start it."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def train_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """``python -m lic_train`` in this process, which has paid for its imports."""
    monkeypatch.setattr(sys, "argv", ["lic_train", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # main sets it: put it back afterwards
    train.main()


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "rd_points.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A finished run, its stdout and stderr; made once for all workers. Copy it to change it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    run = base / "finished"
    with FileLock(base / "finished.lock"):
        if not run.exists():
            done = python("lic_train", *COMMAND, f"hydra.run.dir={run}")
            assert done.returncode == 0, done.stderr[-3000:]
            (base / "stdout.txt").write_text(done.stdout)
            (base / "stderr.txt").write_text(done.stderr)
    return run, (base / "stdout.txt").read_text(), (base / "stderr.txt").read_text()


@pytest.fixture
def run(finished: tuple[Path, str, str]) -> Path:
    return finished[0]


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copied"))


def test_a_run_leaves_what_the_readme_promises(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    assert "${" not in text and "???" not in text
    config = OmegaConf.load(run / "config.yaml")
    assert config.name == "edic" and config.run_dir == str(run) and config.model.N == 8
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    assert (run / "model.safetensors").stat().st_size > 10_000
    about = OmegaConf.load(run / "model.yaml").about
    assert about.name == "edic" and about.steps == 2 and about.metric == "mse"
    with Image.open(run / "figures" / "rd_curve.png") as figure:
        assert figure.format == "PNG" and min(figure.size) > 200
    metrics = (run / "logs" / "version_0" / "metrics.csv").read_text()
    for name in (
        "train/loss",
        "train/aux_loss",
        "train/grad_norm",
        "val/loss",
        "rd/bpp",
        "rd/psnr",
    ):
        assert name in metrics.splitlines()[0]
    offline = list(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(offline) == 1 and offline[0].stat().st_size > 0
    assert not [path for path in run.rglob("*") if "tmp" in path.suffix]


def test_a_whole_run_in_wandb(run: Path) -> None:
    """The command's own: what watched it is there, under names that no codec changes."""
    held = WandbFile(run)
    assert {"live/bpp", "live/psnr", "rd/bpp", "rd/psnr", "curve/bpp", "curve/psnr"} <= set(
        held.last
    )
    assert {"train/loss", "val/loss", "train/grad_norm"} <= set(held.last)
    vitals = {"lr/net_muon", "lr/net_adam", "lr/aux", "speed/images_per_s", "memory/host_gb"}
    assert vitals <= set(held.last)
    title = "edic λ=0.005 experiment=edic_gmm debug=fast crop_size=64 +4"
    assert held.run["display_name"] == title
    assert {"edic", "samples"} <= set(held.run["tags"])
    about = json.loads((run / "about.json").read_text())
    assert about["title"] == title and about["name"] == "edic"
    pictures = ("live/rd_curve", "live/reconstructions", "live/latents", "figures/rd_curve")
    assert {f"{name}.filenames" for name in pictures} <= set(held.last)
    assert (held.files / held.last["rd/points.path"]).is_file()
    config = [r["config"]["update"] for r in held.of("config")]
    assert any("model" in update and "lmbda" in update for update in config)


def test_a_whole_run_in_the_list_of_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (listed,) = listing.rows([run])
    assert (listed.state, listed.step, listed.steps, listed.lmbda) == ("finished", 2, 2, 0.005)
    (own,) = [row for row in rows(run) if row["codec"] == "edic"]
    assert listed.bpp == pytest.approx(float(own["bpp"]))
    assert listed.s_per_step and listed.s_per_step > 0 and listed.end_in_s is None
    cli.main(["runs", str(run), "--where", "N=8"])
    assert "edic λ=0.005" in capsys.readouterr().out


def test_the_rows_tell_of_the_files(run: Path) -> None:
    assert (run / "rd_points.csv").read_text().splitlines()[0] == COLUMNS
    table = rows(run)
    own = [row for row in table if row["codec"] == "edic"]
    assert len(own) == 1 and {row["codec"] for row in table} == {"edic", "jpeg"}
    assert {row["dataset"] for row in table} == {"samples"}
    files = {path.name: path.stat().st_size for path in (run / "bitstreams").iterdir()}
    assert files == {f"{row['image']}_r{row['rate']}.lic": int(row["bytes"]) for row in own}
    for row in own:
        pixels = int(row["width"]) * int(row["height"])
        assert float(row["bpp"]) == pytest.approx(8 * int(row["bytes"]) / pixels)
        assert float(row["lmbda"]) == 0.005 and row["device"] == "cpu"
        assert float(row["encode_s"]) > 0 and float(row["decode_s"]) > 0
        decoded = read_image(run / "reconstructions" / f"{row['image']}_r{row['rate']}.png").pixels
        assert decoded.shape == (3, int(row["height"]), int(row["width"]))
        original = Samples("eval", limit=1, longest_side=128).pixels(0)
        mse = (decoded.double() - original.double()).square().mean().item()
        assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / mse))
    summary = json.loads((run / "rd_summary.json").read_text())
    with (run / "rate_gap.csv").open(newline="") as file:
        (gap,) = csv.DictReader(file)
    parts = ("estimated", "header", "checks", "coder", "tables", "tails")
    assert sum(float(gap[part]) for part in parts) == pytest.approx(8 * int(gap["bytes"]))
    assert gap["bytes"] == own[0]["bytes"] and own[0]["image"] == gap["image"]
    (mean,) = [point for point in summary["points"] if point["codec"] == "edic"]
    assert mean["bpp"] == float(own[0]["bpp"]) and mean["images"] == 1


def test_the_last_lines_are_the_table_and_the_folder(finished: tuple[Path, str, str]) -> None:
    run, stdout, stderr = finished
    lines = stdout.rstrip().splitlines()
    assert lines[-1] == str(run)
    below_the_bar = "\n".join(lines[-12:-1])
    (row,) = [row for row in rows(run) if row["codec"] == "edic"]
    assert f"{float(row['bpp']):.3f}" in below_the_bar and "bpp (file)" in below_the_bar
    assert f"{float(row['psnr']):.2f}" in below_the_bar and "JPEG quality" in below_the_bar
    assert "% of the estimated bits longer: header" in "\n".join(lines[-16:-6])
    assert lines[0].startswith("codec  edic: EDIC") and str(run) in "\n".join(lines[:4])
    assert "Traceback" not in stderr and "Warning" not in stderr


# --- the commands for a trained codec


def test_compress_and_decompress_in_fresh_processes(run: Path, tmp_path: Path) -> None:
    (row,) = [row for row in rows(run) if row["codec"] == "edic"]
    image, file, decoded = (tmp_path / name for name in ("x.png", "x.lic", "decoded.png"))
    write_png(image, Samples("eval", limit=1, longest_side=128).pixels(0))
    done = python("lic_train.cli._main", "compress", image, file, "--model", run)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"{row['bytes']} bytes, {float(row['bpp']):.4f} bpp" in done.stdout
    assert file.read_bytes() == (run / "bitstreams" / f"{row['image']}_r0.lic").read_bytes()
    done = python("lic_train.cli._main", "decompress", file, decoded, "--model", run)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    expected = read_image(run / "reconstructions" / f"{row['image']}_r0.png").pixels
    assert torch.equal(read_image(decoded).pixels, expected)


def test_evaluate_writes_the_same_kinds_of_files(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "holidays", tmp_path / "new" / "results"
    photo = Samples("train", limit=1).pixels(0)
    for name, side in (("a.png", 70), ("beach/b.png", 33)):
        (data / name).parent.mkdir(exist_ok=True, parents=True)
        write_png(data / name, photo[:, :side, :64])
    options = ["--data", str(data), "--out", str(out), "--save-images", "1"]
    cli.main(["evaluate", str(run), *options])
    captured = capsys.readouterr()
    assert captured.out.rstrip().splitlines()[-1] == str(out)
    assert "holidays, means over 2 images" in captured.out
    assert (out / "rd_points.csv").read_text().splitlines()[0] == COLUMNS
    own = [row for row in rows(out) if row["codec"] == "edic"]
    assert [(row["image"], row["width"], row["height"]) for row in own] == [
        ("a.png", "64", "70"),
        ("beach/b.png", "64", "33"),
    ]
    assert {row["dataset"] for row in rows(out)} == {"holidays"} and own[0]["lmbda"] == "0.005"
    sizes = [path.stat().st_size for path in sorted((out / "bitstreams").iterdir())]
    assert sizes == [int(row["bytes"]) for row in own]
    kinds = (
        "rd_summary.json",
        "anchors.json",
        "figures/rd_curve.png",
        "reconstructions/a.png_r0.png",
    )
    assert all((out / kind).is_file() for kind in kinds)
    assert len(list((out / "reconstructions").iterdir())) == 1


# --- the same command again


def test_the_same_command_again_trains_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [copied / "model.yaml", *(copied / "bitstreams").iterdir()]
    before = [path.read_bytes() for path in kept]
    weights = load_file(copied / "model.safetensors")
    log = (copied / "logs" / "version_0" / "metrics.csv").read_text()
    train_here(monkeypatch, *COMMAND, f"hydra.run.dir={copied}")
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(copied)
    assert [path.read_bytes() for path in kept] == before
    again = load_file(copied / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert (copied / "logs" / "version_0" / "metrics.csv").read_text() == log
    lives = list(copied.glob("wandb/offline-run-*"))
    assert len(lives) == 2 and len({path.name.rpartition("-")[2] for path in lives}) == 1


def adam_steps(state: Any) -> list[float]:
    """Every parameter's count of steps, however optimizers are nested."""
    if isinstance(state, dict):
        own = [float(state["step"])] if "step" in state else []
        return own + [step for value in state.values() for step in adam_steps(value)]
    return [step for value in state for step in adam_steps(value)] if type(state) is list else []


def test_a_longer_run_goes_on_from_the_finished_one(copied: Path) -> None:
    config = OmegaConf.load(copied / "config.yaml")
    config.trainer.max_steps = 5
    config.logger = {}
    config.callbacks.checkpoint.dirpath = str(copied / "checkpoints")
    last = copied / "checkpoints" / "last.ckpt"
    old = torch.load(last, weights_only=True)
    fit(build(config), last)
    new = torch.load(last, weights_only=True)
    assert new["global_step"] == 5
    # Adam's own count went on as well; a fresh optimizer would have come to 3.
    assert set(adam_steps(old["optimizer_states"])) == {2.0}
    assert set(adam_steps(new["optimizer_states"])) == {5.0}


def test_a_damaged_checkpoint_is_left_alone(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    last = copied / "checkpoints" / "last.ckpt"
    (copied / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    whole = last.read_bytes()
    cases = {
        "is not a checkpoint": (whole[: len(whole) // 2], COMMAND),
        "not a checkpoint": (b"junk", COMMAND),
        "model.N 8 -> 12": (whole, [*COMMAND, "model.N=12"]),
    }
    for words, (data, overrides) in cases.items():
        last.write_bytes(data)
        digest = hashlib.sha256(data).digest()
        with pytest.raises(SystemExit) as caught:
            train_here(monkeypatch, *overrides, "logger=csv", f"hydra.run.dir={copied}")
        lines = capfd.readouterr().err.strip().splitlines()
        assert caught.value.code == 2 and len(lines) == 1
        assert lines[0].startswith("lic_train: error: ") and words in lines[0]
        assert str(copied) in lines[0] and "hydra.run.dir" in lines[0]
        assert hashlib.sha256(last.read_bytes()).digest() == digest
