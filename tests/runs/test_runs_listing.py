"""Runs, sweeps, chains and evaluations are found, their states told, chosen and sorted."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lic_train.cli import _main as cli
from lic_train.errors import DataError
from lic_train.runs.choose import ordered, where
from lic_train.runs.differences import differences
from lic_train.runs.listing import rows
from lic_train.runs.record import write_about, write_evaluation


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def make_run(folder: Path, lmbda: float = 0.01, done: bool = True, **settings: Any) -> Path:
    """What a run leaves, as far as it is listed."""
    flat = {"name": "edic", "lmbda": lmbda, "trainer.max_steps": 1000, "model.N": 64} | settings
    write(folder / "run.json", flat)
    nested = {"name": "edic", "lmbda": lmbda, "model": {"N": flat["model.N"]}}
    write(folder / "config.yaml", json.dumps(nested | {"run_dir": str(folder)}))
    write_about(folder, f"edic λ={lmbda:g}", "edic", [])
    step = 1000 if done else 400
    log = "step,train/loss,speed/s_per_step,rd/bd_rate/jpeg\n"
    log += "".join(f"{s - 1},1.5,0.25,\n" for s in range(50, step + 1, 50))
    write(folder / "logs" / "version_0" / "metrics.csv", log)
    write(folder / "checkpoints" / "last.ckpt", "x")
    if done:
        with (folder / "logs" / "version_0" / "metrics.csv").open("a") as file:
            file.write("1000,,,-12.5\n")
        point = {"dataset": "set", "codec": "edic", "lmbda": lmbda, "rate": 0}
        point |= {"bpp": 10 * lmbda, "psnr": 30.0, "bpp_estimated": 10 * lmbda}
        jpeg = point | {"codec": "jpeg", "bpp_estimated": None, "bpp": 9.0, "rate": 95}
        write(folder / "rd_summary.json", {"points": [point, jpeg]})
        write(folder / "model.yaml", "model: {}")
    return folder


def test_states_and_figures(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "done", 0.02)
    make_run(tmp_path / "a" / "stopped", done=False)
    longer = make_run(tmp_path / "a" / "longer")
    os.utime(longer / "checkpoints" / "last.ckpt", (time.time() + 9, time.time() + 9))
    running = make_run(tmp_path / "b", done=False)
    with (running / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = {row.path.name: row for row in rows([tmp_path])}
    assert {name: row.state for name, row in found.items()} == {
        **{"done": "finished", "stopped": "stopped", "longer": "stopped", "b": "running"},
    }
    done, now = found["done"], found["b"]
    assert (done.step, done.bpp, done.psnr, done.bd_rate) == (1000, 0.2, 30.0, {"jpeg": -12.5})
    assert (now.step, now.steps, now.s_per_step, now.end_in_s) == (400, 1000, 0.25, 150.0)
    assert now.bpp is None and done.end_in_s is None and done.machine == os.uname().nodename
    assert done.age_s is not None and 0 <= done.age_s < 60


def test_sweeps_chains_and_evaluations(tmp_path: Path) -> None:
    sweep = tmp_path / "multirun" / "edic" / "abc"
    write(sweep / "sweep.json", {"points": ["lmbda=0.1", "lmbda=0.2", "lmbda=0.3"]})
    one = make_run(sweep / "lmbda=0.1", 0.1)
    write(one / "point.json", {"label": "lmbda=0.1", "settings": {}})
    two = make_run(sweep / "lmbda=0.2", 0.2, done=False)
    write(two / "point.json", {"label": "lmbda=0.2"})
    write(two / "state.json", {"code": 2, "why": "disk is full"})
    waiting = {"label": "lmbda=0.3", "settings": {"name": "edic", "lmbda": 0.3}}
    write(sweep / "lmbda=0.3" / "point.json", waiting)
    table = "codec,anchor,bd_rate\nedic,jpeg,-33.2\nedic,webp,\n"
    write(sweep / "report_files" / "bd_rate.csv", table)
    write(tmp_path / "chain" / "chain.json", {"chain": "rnn", "stages": ["few", "all"]})
    make_run(tmp_path / "chain" / "1_few")
    write(tmp_path / "out" / "rd_summary.json", (one / "rd_summary.json").read_text())
    write_evaluation(tmp_path / "out", one, [])
    found = rows([tmp_path])
    by_name = {row.name: row for row in found}
    whole = by_name["sweep edic/abc"]
    assert (whole.state, whole.step, whole.steps) == ("failed", 1, 3)
    assert whole.bd_rate == {"jpeg": -33.2}
    assert [(r.state, r.why, r.depth) for r in found if r.path.parent == sweep] == [
        *(("finished", "", 1), ("failed", "disk is full", 1), ("waiting", "", 1)),
    ]
    assert (by_name["chain rnn"].step, by_name["chain rnn"].steps) == (1, 2)
    evaluation = by_name["edic λ=0.1 on set"]
    assert (evaluation.kind, evaluation.bpp, evaluation.lmbda) == ("evaluation", 1.0, 0.1)
    assert where(found, ["lmbda=0.1", "kind=evaluation"]) == [evaluation]


def test_choosing_and_sorting(tmp_path: Path) -> None:
    for i, lmbda in enumerate((0.02, 0.0067, 0.1)):
        make_run(tmp_path / str(i), lmbda, **{"model.N": 64 + i, "data.on": i == 0})
    make_run(tmp_path / "9", 0.5, done=False)
    found = rows([tmp_path])
    assert [r.path.name for r in where(found, ["lmbda=6.7e-3"])] == ["1"]
    assert [r.path.name for r in where(found, ["N=66"])] == ["2"]
    assert [r.path.name for r in where(found, ["data.on=on"])] == ["0"]
    assert [r.path.name for r in where(found, ["state=stopped"])] == ["9"]
    assert [r.path.name for r in ordered(found, "bpp")] == ["1", "0", "2", "9"]
    assert [r.path.name for r in ordered(found, "bpp", reverse=True)] == ["2", "0", "1", "9"]
    with pytest.raises(DataError, match="did you mean lmbda"):
        where(found, ["lambda=0.1"])
    with pytest.raises(DataError, match="give KEY=VALUE"):
        where(found, ["lmbda"])


def test_damaged_files_and_other_folders_are_no_reason_to_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "x\x1b[31m")
    for name in ("about.json", "rd_summary.json", "logs/version_0/metrics.csv"):
        (run / name).write_bytes(b"\xff\0{[")
    write(tmp_path / "photos" / "a.txt", "hello")
    cli.main(["runs", str(tmp_path)])
    said = capsys.readouterr().out
    assert "edic λ=0.01" in said and "\x1b" not in said
    for folder in (tmp_path / "photos", tmp_path / "nothing"):
        with pytest.raises(SystemExit):
            cli.main(["runs", str(folder)])
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_two_hundred_runs_in_three_seconds_without_torch(tmp_path: Path) -> None:
    for i in range(200):
        more = {f"data.setting_{k}": k for k in range(150)}
        make_run(tmp_path / f"{i:03d}", 0.001 * (1 + i), done=bool(i % 3), **more)
    code = "import sys; from lic_train.cli import _main; _main.main(sys.argv[1:]); "
    code += "assert not {'torch', 'scipy', 'matplotlib'} & set(sys.modules)"
    begun = time.monotonic()
    line = [sys.executable, "-c", code, "runs", str(tmp_path), "--sort", "bpp"]
    done = subprocess.run(line, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("edic λ=") == 200 and seconds < 3, seconds


def test_what_differs_between_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run(tmp_path / "one", 0.01, **{"data.root (files)": "aa"})
    two = make_run(tmp_path / "two", 0.02, **{"data.root (files)": "bb"})
    assert differences(one, one) == []
    write(one / "environment.json", {"commit": "0123, changed since", "torch": "2.11"})
    write(two / "environment.json", {"commit": "0123", "torch": "2.12", "gpu": "none"})
    assert [tuple(d) for d in differences(one, two)] == [
        ("settings", "lmbda", 0.01, 0.02),
        ("commit", "commit", "0123, changed since", "0123"),
        ("data", "data.root (files)", "aa", "bb"),
        ("environment", "gpu", None, "none"),
        ("environment", "torch", "2.11", "2.12"),
    ]
    cli.main(["diff", str(one), str(two)])
    assert "lmbda  0.01  ->  0.02" in capsys.readouterr().out
    # An evaluation has its run's settings.
    write(tmp_path / "out" / "rd_summary.json", {})
    write_evaluation(tmp_path / "out", one, [])
    assert [d for d in differences(one, tmp_path / "out") if d.about != "data"] == []
    with pytest.raises(SystemExit):
        cli.main(["diff", str(one), str(tmp_path)])
