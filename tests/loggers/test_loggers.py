"""What loggers are told, read back from what they wrote with their own readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from helpers.wandb_file import WandbFile
from helpers.zoo import SCRIPTS
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lic_train.loggers.results import log_pictures, log_results
from lic_train.loggers.wandb_run import wandb_run
from lic_train.rd.curves import mean_curve
from lic_train.rd.headline import headline
from lic_train.rd.points import RDPoint, write_csv


def rows() -> list[RDPoint]:
    """Two images at four rates of a codec, and an anchor that needs a quarter more."""
    made = []
    for image, more in (("a", 0.0), ("b", 2.0)):
        for rate, (size, psnr) in enumerate([(100, 28.0), (200, 31.0), (400, 34.0), (800, 37.0)]):
            for codec, cost in (("mine", 1.0), ("jpeg", 1.25)):
                size_of, mine = int(size * cost), codec == "mine"
                bpp = 8 * size_of / 1024
                head = ("set", image, codec, rate, 0.01 if mine else None, 32, 32, size_of, bpp)
                rest = (
                    bpp * 0.99 if mine else None,
                    psnr + more,
                    0.9 + rate / 100,
                    0.2,
                    0.3,
                    "cpu",
                )
                made.append(RDPoint(*head, *rest))
    return made


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """What a finished run holds when its loggers are told."""
    write_csv(rows(), tmp_path / "rd_points.csv")
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / "model.yaml").write_text("model: {}")
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (8, 6), "red").save(tmp_path / "figures" / "rd_curve.png")
    yield tmp_path
    wandb.finish()


def test_the_headline() -> None:
    numbers = headline(rows(), "mine", "live")
    assert numbers["live/psnr"] == 38.0 and numbers["live/bpp"] == 8 * 800 / 1024
    assert numbers["live/rate00/psnr"] == 29.0
    assert numbers["live/bd_rate/jpeg"] == pytest.approx(-20, abs=0.01)
    assert numbers["live/saved/jpeg"] == pytest.approx(20, abs=0.01)
    one = [p for p in rows() if p.codec == "jpeg" or p.rate == 2]
    numbers = headline(one, "mine", "rd")
    assert set(numbers) == {
        *(f"rd/{key}" for key in ("bpp", "bpp_estimated", "psnr", "ms_ssim")),
        "rd/saved/jpeg",
    }


def test_offline_is_offline_where_wandb_was_set_up_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    wandb.teardown()
    wandb.setup()  # reads the environment, for good
    logger = wandb_run(tmp_path, project="p", offline=True)
    logger.log_hyperparams({"N": 64})
    wandb.finish()
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1


def test_what_an_offline_wandb_run_holds(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb.teardown()  # a W&B that is set up already reads no environment
    monkeypatch.setenv("WANDB_RUN_GROUP", "edic/sweep1")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="p", save_dir=run_dir, offline=True, group=None)
    logger.log_hyperparams({"model": {"N": 64}})
    log_pictures([logger], {"live/rd_curve": run_dir / "figures" / "rd_curve.png"}, 50)
    numbers = headline(rows(), "mine", "rd")
    log_results([logger], rows(), "mine", numbers, run_dir, 100)
    wandb.finish()
    held = WandbFile(run_dir)
    assert held.run["run_group"] == "edic/sweep1"
    assert {key: held.last[key] for key in numbers} == pytest.approx(numbers)
    # The run's operating points, over bits per pixel as their axis.
    axis = {m["metric"].get("glob_name"): m["metric"].get("step_metric") for m in held.of("metric")}
    assert axis["curve/*"] == "curve/bpp"
    curve = mean_curve(rows(), "mine")
    drawn = [item for item in held.history if "curve/bpp" in item]
    assert [(p["curve/bpp"], p["curve/psnr"]) for p in drawn] == list(
        zip(curve.bpp, curve.psnr, strict=True)
    )
    # The table is the rows, the plot is the curves.
    table = json.loads((held.files / held.last["rd/points.path"]).read_text())
    assert table["data"] == [list(vars(point).values()) for point in rows()]
    plotted = json.loads((held.files / held.last["rd/curves_table.path"]).read_text())
    assert {key for _, key, _ in plotted["data"]} == {"mine", "jpeg"} and len(plotted["data"]) == 8
    for key, step in (("live/rd_curve", 50), ("figures/rd_curve", 100)):
        (item,) = [item for item in held.history if f"{key}.filenames" in item]
        assert Image.open(held.files / item[f"{key}.filenames"][0]).size == (8, 6)
        assert item["trainer/global_step"] == step
    models = [a["artifact"] for a in held.of("artifact") if a["artifact"]["type"] == "model"]
    names = {entry["path"] for entry in models[0]["manifest"]["contents"]}
    assert names == {"model.safetensors", "model.yaml", "rd_points.csv"}
    assert held.of("exit")[0]["exit"]["exit_code"] == 0


def test_tensorboard_and_csv_get_what_they_can_show(run_dir: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoardLogger(run_dir, name="logs", version="tensorboard", default_hp_metric=False)
    table = CSVLogger(run_dir, name="logs")
    for logger in (board, table):
        logger.log_hyperparams({"model": {"N": 64}, "lmbda": 0.01})
    numbers = headline(rows(), "mine", "rd")
    log_results([board, table], rows(), "mine", numbers, run_dir, 100)
    events = reader.EventAccumulator(str(run_dir / "logs" / "tensorboard"))
    events.Reload()
    assert set(numbers) <= set(events.Tags()["scalars"])
    assert events.Scalars("rd/psnr")[0].step == 100
    assert "figures/rd_curve" in events.Tags()["images"]
    assert "rd/psnr" in (run_dir / "logs" / "version_0" / "metrics.csv").read_text()


@pytest.mark.filterwarnings("ignore")  # of wandb_workspaces about its own code
def test_the_saved_view_shows_names_that_runs_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is built here; to save it takes W&B's server."""
    pytest.importorskip("wandb_workspaces")
    monkeypatch.syspath_prepend(SCRIPTS)
    import wandb_workspace

    view = wandb_workspace.workspace("somebody", "lic_train")
    panels = [panel for section in view.sections for panel in section.panels]
    assert [panel.x for panel in panels[:2]] == ["curve/bpp", "curve/bpp"]
    logged = headline(rows(), "mine", "live") | headline(rows(), "mine", "rd")
    shown = {
        key for panel in panels if isinstance(y := getattr(panel, "y", None), list) for key in y
    }
    assert {key for key in shown if key.startswith("live/")} <= set(logged)
    assert {key for key in shown if key.startswith("curve/")} == {
        "curve/psnr",
        "curve/ms_ssim_mean_of_db",
    }
