"""One rule names runs: model, lambda, then what differs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lic_train.runs.names import curve, differing, joined, shown, title, with_target
from lic_train.utils import working_copy
from lic_train.utils.working_copy import commits


def test_a_name_says_model_lambda_and_what_differs() -> None:
    assert title("edic", 0.0067) == "edic λ=0.0067"
    command = ["experiment=edic", "lmbda=0.0067", "model.attention=false"]
    assert title("edic", 0.0067, differing(command)) == "edic λ=0.0067 attention=off"
    assert curve("flow", ["model=flow", "seed=2"]) == "flow seed=2"
    many = [f"model.{key}={i}" for i, key in enumerate("abcde")]
    assert curve("edic", many) == "edic a=0 b=1 c=2 +2"
    assert curve("edic", many, most=None) == "edic a=0 b=1 c=2 d=3 e=4"


def test_a_command_tells_what_results_depend_on_and_the_last_of_two() -> None:
    told = ["+data.crop.colours=true", "~callbacks.ema", "loss=ms_ssim", "seed=1", "seed=2"]
    quiet = ["hydra.run.dir=x/y", "logger=csv", "data.root=/photos", "callbacks.latents=null"]
    quiet += ["lmbda=0.1", "trainer.devices=2", "init_from.all.run=r", "evaluation.device=cuda"]
    assert differing([*told, *quiet]) == [
        *("data.crop.colours=true", "callbacks.ema=", "loss=ms_ssim", "seed=2"),
    ]
    # A choice that the name does not tell.
    assert curve("edic", differing(["experiment=edic", "model=flow"])) == "edic model=flow"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.enhancement=False", "enhancement=off"),
        ("scheduler=null", "scheduler=none"),
        ("data.train.name='a/b'", "name=a_b"),
        ("model/residual=mixture", "model_residual=mixture"),
    ],
)
def test_settings_in_words(setting: str, said: str) -> None:
    assert shown(setting) == said


def test_another_class_in_the_models_place_names_itself() -> None:
    given = ["experiment=edic", "model._target_=mine.Factorised"]
    assert with_target(given) == [*given, "name=Factorised"]
    assert with_target([*given, "name=mine"]) == [*given, "name=mine"]
    assert with_target(["model._target_=a.A,b.B"]) == ["model._target_=a.A,b.B"]
    assert differing(given) == ["experiment=edic"]


def test_several_models_have_a_name() -> None:
    assert joined(["edic", "flow", "edic"]) == "edic+flow"
    assert joined(["a", "b", "c", "d"]) == "4_models"


def test_the_commit_is_that_of_the_users_working_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*command: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        line = ["git", "-C", str(tmp_path), *who, *command]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(working_copy, "PACKAGE", tmp_path / "installed")
    assert commits() == {}
    git("init", "-q")
    assert commits() == {}  # nothing is committed
    (tmp_path / "mine.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    name, head = f"commit of {tmp_path.name}", git("rev-parse", "HEAD")
    assert commits() == {name: head}
    (tmp_path / "mine.py").write_text("x = 2\n")
    (tmp_path / "unknown").mkdir()
    assert commits() == {name: f"{head}, changed since"}
