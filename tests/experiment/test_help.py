"""The page of --help names every experiment in a line; keys that are added must be of use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lic_train.cli import _main as cli
from lic_train.errors import SettingError
from lic_train.experiment.help import WIDTH, page
from lic_train.experiment.unused import check_added
from lic_train.utils.configs import config_dir


def test_every_experiment_has_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = page()
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ")}
    stems = [path.stem for path in Path(config_dir(), "experiment").glob("*.yaml")]
    assert len(stems) > 20 and all(len(lines[stem].split()) >= 4 for stem in stems)
    assert all(len(lines[stem]) <= WIDTH for stem in stems)
    assert "attention" in lines["edic"]
    assert "edic" in lines["model="] and "image_folder" in lines["data="]
    # lic train is python -m lic_train.
    monkeypatch.setattr(sys, "argv", ["lic"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    cli.main(["train", "--help"])
    assert capsys.readouterr().out == f"{said}\n"


def test_a_key_that_is_added_is_of_use() -> None:
    cfg = OmegaConf.create(
        {
            "lmbda": 0.1,
            "lmbd": 0.2,
            "side": 64,
            "data": {"_target_": "x", "crop": "${side}", "eval": {"limit": 3}},
            "callbacks": {"mine": {"_target_": "y", "every": 2}, "other": 3},
        }
    )
    used = ["+side=64", "+data.eval.limit=3", "+callbacks.mine.every=2", "+sweep.x=1", "lmbda=0.1"]
    check_added(cfg, [*used, "++lmbda=0.1", "+debug=fast", "~lmbd", "+callbacks.mine._target_=y"])
    for unused in ("+lmbd=0.2", "++lmbd=0.2", "+callbacks.other=3"):
        with pytest.raises(SettingError, match="nothing uses"):
            check_added(cfg, [*used, unused])
