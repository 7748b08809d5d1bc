"""A sweep is planned, locked, killed, continued and concluded; what is not finished is said."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.resuming import outcome, wait_for
from helpers.sweeps import LONGER, TINY
from helpers.zoo import REPOSITORY
from PIL import Image

from lic_train.cli import _main as cli
from lic_train.data.sources import ImageFolder, Samples
from lic_train.errors import LicError
from lic_train.experiment import identity
from lic_train.rd.points import RDPoint, read_csv, write_csv
from lic_train.report.runs import find_runs
from lic_train.runs.record import read
from lic_train.sweep.launchers import Local
from lic_train.sweep.plan import Plan, Point, enter, plan
from lic_train.sweep.run import _sync_line, conclude, run
from lic_train.sweep.state import LOCK, POINT, STATE, hold, points_of, status, write
from lic_train.sweep.summary import gather

pytestmark = pytest.mark.filterwarnings("ignore")


def planned(directory: Path, *overrides: str) -> Plan:
    return plan([*TINY, f"hydra.sweep.dir={directory}", *overrides], [])


# --- what a point is


def test_the_identity_is_of_what_matters(tmp_path: Path) -> None:
    base = planned(tmp_path, "lmbda=0.01,0.02")
    assert [p.label for p in base.points] == ["lmbda=0.01", "lmbda=0.02"] and base.keys == ["lmbda"]
    assert len({identity.digest(p.settings) for p in base.points}) == 2
    same = ("trainer.accelerator=gpu", "data.num_workers=3", "logger=csv", "+data.eval.cache_mb=1")
    moved = planned(tmp_path / "elsewhere", "lmbda=0.01,0.02", *same)
    assert [p.settings for p in moved.points] == [p.settings for p in base.points]
    for change in ("optimizer.net.lr=0.3", "model.N=9", "data.train.limit=3", "callbacks=ema"):
        other = planned(tmp_path, "lmbda=0.01,0.02", change)
        assert other.points[0].settings != base.points[0].settings
    for point in base.points:
        assert not any(str(tmp_path) in str(value) for value in point.settings.values())


def test_the_identity_knows_the_images(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
    a, b = (identity.of_source(ImageFolder(folder)) for folder in folders)
    assert a == b and a.startswith("3 images")
    Image.effect_noise((8, 8), 9).save(folders[1] / "2.png")
    assert identity.of_source(ImageFolder(folders[1])) != a
    assert identity.of_source(Samples("train")) != identity.of_source(Samples("train", limit=3))


def test_a_sweep_is_found_again_by_the_same_command_alone() -> None:
    line = [*TINY, "lmbda=0.01,0.02"]
    first, again, longer, other = (
        plan([*line, *more], []).directory
        for more in ([], ["logger=csv"], ["lmbda=0.01,0.03"], ["seed=2"])
    )
    assert first == again == longer != other
    assert first.parent == Path("multirun/edic").resolve()


def test_a_ladder_has_a_name_and_the_command_line_counts_more(tmp_path: Path) -> None:
    eight = planned(tmp_path, "sweep=mse8").points
    lambdas = "0.0018 0.0035 0.0067 0.013 0.025 0.0483 0.0932 0.18".split()
    assert [p.label for p in eight] == [f"lmbda={lmbda}" for lmbda in lambdas]
    two = planned(tmp_path, "sweep=mse8", "lmbda=0.5", "seed=1,2").points
    assert [p.label for p in two] == ["seed=1", "seed=2"]
    assert all("lmbda=0.5" in p.overrides for p in two)
    with pytest.raises(LicError, match="would share"):
        planned(tmp_path, "lmbda=0.01,0.010")


def test_a_chain_starts_the_others_from_the_highest(tmp_path: Path) -> None:
    chain = ["sweep.chain.along=lmbda", "+sweep.chain.then.trainer.max_steps=3"]
    points = planned(tmp_path, "lmbda=0.01,0.03,0.02", "seed=1,2", *chain).points
    starts = {p.label: p.start for p in points}
    for seed in (1, 2):
        first = f"lmbda=0.03,seed={seed}"
        assert starts[first] is None
        assert all(starts[f"lmbda={lmbda},seed={seed}"] == first for lmbda in (0.01, 0.02))
    by_label = {p.label: p for p in points}
    first, other = by_label["lmbda=0.03,seed=1"], by_label["lmbda=0.01,seed=1"]
    assert other.overrides[-1] == f"++init_from.all.run='{first.directory}'"
    assert other.settings["trainer.max_steps"] == 3 and first.settings["trainer.max_steps"] == 2
    # Other weights to start from, another point.
    longer = planned(tmp_path, "lmbda=0.01,0.03,0.02", "seed=1,2", *chain, "scheduler.warmup=1")
    one = {p.label: p for p in longer.points}[other.label].settings["init_from.all"]
    assert one != other.settings["init_from.all"]
    with pytest.raises(LicError, match="no number"):
        planned(tmp_path, "lmbda=0.1,0.2", "sweep.chain.along=name")


# --- what is refused


def test_other_settings_are_named_and_want_another_directory(tmp_path: Path) -> None:
    enter(planned(tmp_path, "lmbda=0.01,0.02"))
    enter(planned(tmp_path, "lmbda=0.01,0.02", "logger.csv.name=x"))
    enter(planned(tmp_path, "lmbda=0.02,0.03"))  # more points are no change
    assert len(points_of(tmp_path)) == 3
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for change in ("trainer.max_steps=7", "data.train.limit=3"):
        with pytest.raises(LicError, match=r"another hydra\.sweep\.dir") as caught:
            enter(planned(tmp_path, "lmbda=0.02,0.05", change))
        key, _, value = change.partition("=")
        assert f"{key} 2 -> {value}" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_two_sweeps_in_one_directory_and_a_lock_that_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lic_train.sweep.state import hold\n"
        f"with hold(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"held\n"
    with pytest.raises(LicError, match=f"swept by process {owner.pid} on .*hydra.sweep.dir"):
        with hold(tmp_path):
            pass
    owner.kill()
    owner.communicate()
    with hold(tmp_path):
        pass


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); {WRITES}"
    done = subprocess.run(
        [sys.executable, "-c", limit, str(tmp_path / "x" / "point.json")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


WRITES = (
    "import sys; from pathlib import Path; from lic_train.sweep.state import write; "
    "write(Path(sys.argv[1]), {})"
)


@pytest.mark.parametrize(
    "override, words",
    [
        ("hydra/launcher=basic", "hydra/launcher=local or slurm"),
        ("hydra.launcher.jobs=0", "jobs is 0"),
        ("data.train.limit=0", "limit is 0"),
    ],
)
def test_what_cannot_begin_says_so(override: str, words: str, tmp_path: Path) -> None:
    from lic_train.utils.faults import describe

    with pytest.raises(Exception) as caught:
        planned(tmp_path, "lmbda=1,2", override)
    assert words in (describe(caught.value) or "") and not list(tmp_path.iterdir())


# --- how points fare


def point(sweep: Path, label: str, *command: str, start: str | None = None) -> Point:
    made = Point(label, sweep / label, command, {}, start)
    write(made.directory / POINT, {"label": label, "command": list(command)})
    return made


def test_states_come_from_what_is_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["waiting", "running", "vanished", "killed", "stopped", "failed", "empty"]
    write(tmp_path / "sweep.json", {"points": labels})
    codes = {
        "vanished": {"pid": 1},
        "killed": {"code": -9},
        "stopped": {"code": 143},
        "empty": {"code": 0},
    }
    for label in labels:
        one = point(tmp_path, label).directory
        if label in codes:
            write(one / STATE, codes[label])
    write(tmp_path / "failed" / STATE, {"code": 2, "why": "no data", "machine": "node7"})
    code = f"from pathlib import Path; {HOLDS}"
    lock = tmp_path / "running" / LOCK
    owner = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline()
    found = {path.name: status(path) for path in points_of(tmp_path)}
    with pytest.raises(SystemExit):
        cli.main(["sweep", "status", str(tmp_path)])
    owner.kill()
    owner.communicate()
    assert {label: found[label].state for label in labels} == {
        **{"waiting": "waiting", "running": "running", "vanished": "broken"},
        **{"killed": "broken", "stopped": "broken", "failed": "failed", "empty": "failed"},
    }
    assert found["killed"].why == "ended by SIGKILL" and found["stopped"].why == "ended by SIGTERM"
    shown = capsys.readouterr().out
    assert "no data" in shown and "node7" in shown and "1 running" in shown
    vanished = status(tmp_path / "running")  # before it could say anything
    assert vanished.state == "broken" and "left no word" in vanished.why


HOLDS = (
    "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    "print('held', flush=True); time.sleep(60)"
)


def test_status_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", "status", str(tmp_path)])
    assert caught.value.code == 2 and "directory of a sweep" in capsys.readouterr().err


def test_a_failed_point_stops_those_that_start_from_it_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        point(tmp_path, "wrong", "nonsense=1"),
        point(tmp_path, "after", "--cfg", "job", start="wrong"),
        point(tmp_path, "other", "--cfg", "job"),
    ]
    run(Plan(tmp_path, points, [], {}, (), Local(jobs=2, gpus=[5])))
    said = capsys.readouterr().out
    assert "there is no key 'nonsense'" in status(tmp_path / "wrong").why
    assert "after  not begun: wrong" in " ".join(said.split()) or "not begun: wrong" in said
    assert status(tmp_path / "after").state == "waiting"
    assert read(tmp_path / "other" / STATE)["code"] == 0
    assert "lmbda:" in (tmp_path / "other" / "stdout.log").read_text()


def test_a_report_that_fails_is_told_in_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = point(tmp_path, "one")
    write(tmp_path / "sweep.json", {"points": ["one"]})
    (one.directory / "model.yaml").write_text("about: {name: edic, steps: 2}")
    (one.directory / "rd_points.csv").write_text("no table")
    write(one.directory / "rd_summary.json", {})
    write(one.directory / STATE, {"code": 0})
    assert conclude(Plan(tmp_path, [one], [], {}, (), Local())) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("sweep  1 of 1 points finished, no report (") and "no table" not in last
    assert "is not a table of RD points" in last


def test_the_summary_tells_apart_what_was_swept(tmp_path: Path) -> None:
    def finished(label: str, name: str, lmbda: float | None) -> Path:
        folder = point(tmp_path, label).directory
        (folder / "model.yaml").write_text(f"about: {{name: {name}, steps: 2}}")
        values = {"width": 8, "height": 8, "bytes": 9, "bpp": 1.1, "psnr": 30.0, "ms_ssim": 0.9}
        values |= {"bpp_estimated": None, "encode_s": 1.0, "decode_s": 1.0, "device": "cpu"}
        rows = [
            RDPoint("photos", "a", codec, rate, trade_off, **values)
            for codec, rate, trade_off in ((name, 0, lmbda), ("jpeg", 5, None), ("jpeg", 9, None))
        ]
        write_csv(rows, folder / "rd_points.csv")
        return folder

    lambdas = [finished(f"lmbda={v}", "edic", v) for v in (0.1, 0.2)]
    rows, own = gather(lambdas)
    assert own == {"edic"} and len(rows) == 4
    rows, own = gather([finished(f"lmbda=0.1,seed={seed}", "edic", 0.1) for seed in (1, 2)])
    assert own == {"edic seed=1", "edic seed=2"} and len(rows) == 4
    rows, own = gather([finished(f"lmbda={v}", "rnn", None) for v in (0.3, 0.4)])
    assert own == {"rnn lmbda=0.3", "rnn lmbda=0.4"} and len(rows) == 4
    models = [finished(f"model={m},lmbda=0.1", m, 0.1) for m in ("edic", "joint_prior")]
    assert gather(models)[1] == {"edic", "joint_prior"}


def test_a_sweep_over_models_is_filed_under_all_of_them() -> None:
    line = ["model=edic,joint_prior", "lmbda=0.01,0.02", "debug=fast"]
    assert plan(line, []).directory.parent.name == "edic+joint_prior"
    own = plan(["model._target_=a.One,a.Two", "lmbda=0.01", "data.train.limit=1"], [])
    assert own.directory.parent.name == "One+Two"
    assert [p.settings["name"] for p in own.points] == ["One", "Two"]


# --- killed and continued


def start(sweep: Path, *more: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lic_train", "-m", *LONGER, f"hydra.sweep.dir={sweep}", *more],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_sweep_whose_launcher_and_then_a_point_are_killed(tmp_path: Path) -> None:
    sweep = tmp_path / "killed"
    one, two = (sweep / f"lmbda={lmbda}" for lmbda in ("0.01", "0.02"))
    two_points = "lmbda=0.01,0.02"
    first = start(sweep, two_points)
    wait_for(one / "checkpoints" / "previous.ckpt")
    first.kill()
    first.communicate()
    assert status(one).state == "running"  # a point does not end with its sweep

    second = start(sweep, two_points)
    wait_for(two / "checkpoints" / "previous.ckpt")
    os.kill(read(two / STATE)["pid"], signal.SIGKILL)
    said, errors = second.communicate(timeout=300)
    assert second.returncode == 1, errors[-3000:]
    last = errors.strip().splitlines()[-1]
    assert "1 of 2 points finished" in last and "lmbda=0.02 broken (ended by SIGKILL)" in last
    assert "lmbda=0.01  begins" not in said and "lmbda=0.02  begins" in said
    assert "lmbda=0.02 broken (ended by SIGKILL)" in (sweep / "report.html").read_text()

    third = start(sweep, two_points)
    said, errors = third.communicate(timeout=300)
    assert third.returncode == 0, errors[-3000:]
    assert "2 points, 1 of them finished" in said and "lmbda=0.02  resumes" in said
    assert said.strip().splitlines()[-1] == f"sweep  2 of 2 points finished: {sweep}"
    assert [read(p / STATE)["lives"] for p in (one, two)] == [1, 2]
    assert [read(p / STATE)["went_on"] for p in (one, two)] == [False, True]

    # The other had one life; this one is as if it had had one.
    calm = tmp_path / "calm"
    # A process of its own, as points are: the number of threads belongs to what a run is made of.
    alone = [*LONGER[:-1], "lmbda=0.02", f"hydra.run.dir={calm}"]
    subprocess.run(
        [sys.executable, "-m", "lic_train", *alone],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert outcome(two) == outcome(calm)
    rows = read_csv(sweep / "rd_points.csv")
    assert [r.lmbda for r in rows if r.codec == "edic"] == [0.01, 0.02]
    assert [r for p in (one, two) for r in read_csv(p / "rd_points.csv") if r.lmbda] == [
        r for r in rows if r.lmbda
    ]
    assert (sweep / "figures" / "rd_curve.png").is_file()
    assert "broken" not in (sweep / "report.html").read_text()
    assert (sweep / "report_files" / "bd_rate.csv").is_file()
    assert {run.path for run in find_runs([sweep])} == {one, two}  # not those of the report


@pytest.mark.slow
def test_a_disk_that_fills_up_and_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    """Either fails its point and says why; with the cause gone, the same command finishes."""
    one, two = (tmp_path / f"lmbda={lmbda}" for lmbda in ("0.01", "0.02"))
    (two / "checkpoints").mkdir(parents=True)
    other = {"state_dict": {"w": torch.zeros(1)}, "global_step": 7}
    torch.save(other, two / "checkpoints" / "last.ckpt")
    full = start(tmp_path, "lmbda=0.01,0.02", preexec_fn=no_file_above_a_block)
    _, errors = full.communicate(timeout=300)
    assert full.returncode == 1, errors[-3000:]
    last = errors.strip().splitlines()[-1]
    assert "0 of 2 points finished" in last and "checkpoint of another model" in last
    assert "lmbda=0.01 failed" in last and status(one).why in last
    assert not (one / "checkpoints" / "last.ckpt").exists()

    (two / "checkpoints" / "last.ckpt").unlink()
    again = start(tmp_path, "lmbda=0.01,0.02")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors[-3000:]


def no_file_above_a_block() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def test_the_line_that_syncs_a_whole_sweep(tmp_path: Path) -> None:
    sweep = tmp_path / "a sweep"
    assert _sync_line(sweep) == ""
    (sweep / "lmbda=0.1" / "wandb" / "offline-run-1").mkdir(parents=True)
    assert _sync_line(sweep) == f"wandb sync '{sweep}'/*/wandb/offline-run-*"
