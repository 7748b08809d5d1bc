"""One folder, one run: the same goes on, longer is said, other settings and other processes are
refused."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lic_train.errors import TrainingError
from lic_train.experiment.run_folder import CONFIG, LOCK, RECORD, claimed
from lic_train.utils.configs import typed


def config(run_dir: Path, **changes: object) -> DictConfig:
    cfg = OmegaConf.create(
        {
            "run_dir": str(run_dir),
            "lmbda": 0.01,
            "seed": 1,
            "name": "edic",
            "model": {"_target_": "lic_train.modules.codecs.edic.EDIC", "N": 8},
            "optimizer": {"net": {"_target_": "torch.optim.Adam", "lr": 1e-3}},
            "loss": {"_target_": "lic_train.training.loss.RateDistortionLoss"},
            "data": {"train": {"limit": 3, "root": "photos"}, "batch_size": 4, "num_workers": 0},
            "trainer": {"max_steps": 10, "accelerator": "cpu", "val_check_interval": 5},
            "scheduler": {"steps": "${trainer.max_steps}"},
            "evaluation": {"anchors": ["jpeg"]},
            "callbacks": {"checkpoint": {"every": 3}},
            "logger": {"csv": {}},
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("___", "._").replace("__", "."), value)
    return cfg


@pytest.fixture(autouse=True)
def no_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests composed in this process names no folder of these."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of a run that left a checkpoint."""
    folder = tmp_path / "run"
    with claimed(config(folder)):
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    return folder


def test_the_same_command_goes_on(trained: Path) -> None:
    moved = {"data__num_workers": 4, "trainer__accelerator": "gpu", "evaluation__anchors": ["webp"]}
    for changes in ({}, moved, {"logger": {"wandb": {}}, "trainer__val_check_interval": 2}):
        with claimed(config(trained, **changes)) as folder:
            assert folder == trained


@pytest.mark.parametrize(
    "change",
    [
        {"lmbda": 0.5},
        {"seed": 2},
        {"name": "other"},
        {"model__N": 16},
        {"model__gmm_k": 3},
        {"optimizer__net__lr": 1e-2},
        {"optimizer__net__momentum": 0.9},
        {"data__train__limit": 2},
        {"optimizer__net___target_": "torch.optim.SGD"},
    ],
    ids=str,
)
def test_other_settings_are_refused_by_name(trained: Path, change: dict[str, object]) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    (key,) = (name.replace("___", "._").replace("__", ".").rpartition(".")[2] for name in change)
    with pytest.raises(TrainingError) as caught, claimed(config(trained, **change)):
        pass
    assert key in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_longer_is_said_and_shorter_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(config(trained, trainer__max_steps=20)):
        pass
    assert "lengthened from 10 to 20 batches" in capsys.readouterr().err
    with (
        pytest.raises(TrainingError, match=r"20 batches, trainer.max_steps=15 is fewer"),
        claimed(config(trained, trainer__max_steps=15)),
    ):
        pass


def test_another_process_is_refused_with_its_name(trained: Path) -> None:
    with (trained / LOCK).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 7 on elsewhere\n")
        lock.flush()
        with (
            pytest.raises(TrainingError, match="written by process 7 on elsewhere"),
            claimed(config(trained)),
        ):
            pass


def test_a_folder_that_was_refused_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), claimed(config(tmp_path / "new")):
        raise ValueError("wrong")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_version_0_1_is_known_by_its_config(trained: Path) -> None:
    (trained / RECORD).unlink()
    old = config(trained, loss__metric="mse")
    OmegaConf.update(old, "loss._target_", "lic_train.loss.RateDistortionLoss")
    (trained / CONFIG).write_text(OmegaConf.to_yaml(old, resolve=True))
    with claimed(config(trained, model__start="random")):  # a setting that came later
        pass
    (trained / RECORD).unlink()
    with pytest.raises(TrainingError, match=r"lmbda 0.01 -> 0.5"):
        with claimed(config(trained, lmbda=0.5)):
            pass


def test_a_record_that_cannot_be_read_is_refused(trained: Path) -> None:
    (trained / RECORD).write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"), claimed(config(trained)):
        pass
    (trained / RECORD).write_text(json.dumps([]))
    with pytest.raises(TrainingError, match="is none"), claimed(config(trained)):
        pass


def test_other_photographs_are_refused_and_moved_ones_are_not(tmp_path: Path) -> None:
    photos, folder = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"12345")
    with claimed(config(folder, data__root=str(photos))):
        (folder / "model.safetensors").write_bytes(b"weights")
    photos = photos.rename(tmp_path / "moved")
    with claimed(config(folder, data__root=str(photos))):
        pass
    (photos / "b.png").write_bytes(b"1")
    with (
        pytest.raises(TrainingError, match=r"data.root \(files\)"),
        claimed(config(folder, data__root=str(photos))),
    ):
        pass


@pytest.mark.parametrize("folder", ["a", "my runs/lmbda=0.01 (copy)", "照片", "it's", "a#b,c"])
def test_what_is_printed_can_be_typed(folder: str) -> None:
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(typed("hydra.run.dir", folder))
    override = OverridesParser.create().parse_override(word)
    assert override.key_or_group == "hydra.run.dir" and override.value() == folder
