"""A sweep through a real Slurm of one node, started for the test: submitted, requeued, finished."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.sweeps import LONGER
from helpers.zoo import REPOSITORY

from lic_train.runs.record import read
from lic_train.sweep.state import JOB, STATE, points_of, status

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
pytestmark = pytest.mark.slow


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    if lacking := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"no {', '.join(lacking)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a Slurm of one's own wants root"
    return "" if find_spec("submitit") else 'no submitit: pip install "lic_train[slurm]"'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], object], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One node of two cores with a partition, ended with the test."""
    if reason := missing():
        pytest.skip(f"NO SLURM HERE, its sweeps are not tested: {reason}")
    home, host = tmp_path / "slurm", os.uname().nodename.split(".")[0]
    for name in ("state", "spool"):
        (home / name).mkdir(parents=True)
    key, conf, socket_ = home / "munge.key", home / "slurm.conf", home / "munge.socket"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf.write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket_},cred_expire=5
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
"""
    )
    monkeypatch.setenv("SLURM_CONF", str(conf))
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}",
         f"--pid-file={home}/munge.pid", f"--log-file={home}/munge.log",
         f"--seed-file={home}/munge.seed"],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]  # fmt: skip
    with ExitStack() as ends:
        for daemon in daemons:
            log = ends.enter_context((home / f"{daemon[0]}.out").open("wb"))
            process = subprocess.Popen(daemon, stdout=log, stderr=log)
            ends.callback(process.wait)
            ends.callback(process.terminate)
            if daemon[0] == "munged":
                until(socket_.exists, "munged", 30)
        until(lambda: b"idle" in said("sinfo", "-h", "-o", "%T"), "an idle node", 60)
        yield
        said("scancel", "--user=root")


def said(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True).stdout


def sweep(folder: Path) -> subprocess.Popen[str]:
    options = [
        *("hydra/launcher=slurm", "hydra.launcher.poll_s=1", "lmbda=0.01,0.02"),
        *(f"hydra.launcher.options.{option}" for option in ("gpus_per_node=null", "time=30")),
        "hydra.launcher.options.cpus_per_task=1",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "lic_train", "-m", *LONGER, *options, f"hydra.sweep.dir={folder}"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jobs_are_submitted_requeued_by_signal_and_finished(slurm: None, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    launcher = sweep(folder)
    one = folder / "lmbda=0.01"
    until((one / "checkpoints" / "previous.ckpt").exists, "a checkpoint")
    jobs = {path.name: read(path / JOB)["job"] for path in points_of(folder)}
    assert len(set(jobs.values())) == 2
    launcher.kill()  # the jobs do not mind
    launcher.communicate()
    said("scancel", "--signal=USR2", jobs[one.name])  # what Slurm sends before the time is up
    until(lambda: read(one / STATE).get("requeued"), "the job to leave")

    again = sweep(folder)
    output, errors = again.communicate(timeout=500)
    assert again.returncode == 0, errors[-3000:]
    assert "lmbda=0.01  runs already" in output
    assert [status(path).state for path in points_of(folder)] == ["finished", "finished"]
    # The same jobs, none submitted twice; the requeued one went on from its checkpoint.
    assert {path.name: read(path / JOB)["job"] for path in points_of(folder)} == jobs
    assert [read(path / STATE)["lives"] for path in points_of(folder)] == [2, 1]
    assert read(one / STATE)["went_on"]
    assert f"(slurm {jobs[one.name]})" in status(one).machine
