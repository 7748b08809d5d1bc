"""The state of a sweep on disk is its points, their locks and how each of them is doing.

``point.json`` is written once by the sweep, ``state.json`` by the process that runs the point. A
lock that ends with that process shows whether it is running, so that a kill at any moment leaves no
false state.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import IO, Any

from lic_train.errors import LicError
from lic_train.runs.listing import held
from lic_train.runs.record import read
from lic_train.utils.files import write_whole
from lic_train.utils.plain import read_yaml

POINT, STATE, LOCK, SWEEP, JOB = "point.json", "state.json", "point.lock", "sweep.json", "job.json"
STDOUT, STDERR = "stdout.log", "stderr.log"
RESULTS = ("model.yaml", "rd_points.csv", "rd_summary.json")
CHECKPOINT = Path("checkpoints", "last.ckpt")
WAITING, RUNNING, BROKEN, FINISHED, FAILED = "waiting", "running", "broken", "finished", "failed"


class SweepError(LicError):
    """A sweep cannot be started or resumed as requested."""


@dataclass(frozen=True)
class Status:
    """One row of ``lic sweep status``."""

    label: str
    state: str
    step: int | None = None
    """Number of batches trained, as far as the logs tell."""
    bpp: float | None = None
    """Measured bits per pixel, mean over the images, at the finest rate."""
    psnr: float | None = None
    """dB, mean over the images, at the finest rate."""
    machine: str = ""
    why: str = ""
    """Why a failed or broken point ended."""


def points_of(sweep: Path) -> list[Path]:
    """Return the directories of a sweep's points, in its order.

    Raises:
        SweepError: the directory is not that of a sweep.
    """
    labels = read(sweep / SWEEP).get("points")
    if labels is None:
        raise SweepError(f"{sweep} holds no {SWEEP}: give the directory of a sweep")
    return [sweep / label for label in labels]


def status(point: Path) -> Status:
    """Determine how a point is doing; its process need not be alive or on this machine.

    Args:
        point: its directory.

    Raises:
        ValueError: the point is finished and its ``model.yaml`` is damaged.
    """
    label, seen = read(point / POINT).get("label", point.name), read(point / STATE)
    machine = seen.get("machine", "")
    if job := read(point / JOB).get("job"):
        machine = f"{machine} (slurm {job})".strip()
    step = _step(point)
    if held(point / LOCK):
        return Status(label, RUNNING, step, machine=machine)
    begun = seen or (point / LOCK).exists()
    if not begun or seen.get("requeued"):
        return Status(label, WAITING, step, machine=machine)
    code = seen.get("code")
    if code == 0 and all((point / name).is_file() for name in RESULTS):
        return Status(label, FINISHED, *_results(point), machine=machine)
    if code is None or code < 0 or code > 128:  # 128 + n: a signal that Python answered
        return Status(label, BROKEN, step, machine=machine, why=_killed(code))
    why = seen.get("why") or f"exit code {code}"
    return Status(label, FAILED, step, machine=machine, why=why)


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, all or nothing.

    Raises:
        SweepError: it cannot be written, e.g. because the disk is full.
    """
    try:
        write_whole(path, (json.dumps(values, indent=1) + "\n").encode())
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def hold(sweep: Path) -> Iterator[IO[str]]:
    """Lock a sweep's directory; the lock ends with the process, however that ends.

    Yields:
        The open lock file.

    Raises:
        SweepError: another process holds the lock, or it cannot be created.
    """
    path = sweep / "sweep.lock"
    try:
        sweep.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise SweepError(
                f"{sweep} is being swept by {owner}: wait for it, or give another hydra.sweep.dir"
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without a name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
        yield file


def _killed(code: int | None) -> str:
    if code is None:
        return "it left no word: killed, or the disk is full"
    with suppress(ValueError):
        return f"ended by {Signals(-code if code < 0 else code - 128).name}"
    return f"exit code {code}"


def _step(point: Path) -> int | None:
    """The last batch in the newest ``metrics.csv``; a life that logged nothing has none."""
    found = sorted(point.glob("logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found):
        with suppress(OSError, ValueError, csv.Error), path.open(newline="") as file:
            if steps := [int(row["step"]) for row in csv.DictReader(file) if row.get("step")]:
                return max(steps)
    return None


def about(point: Path) -> dict[str, Any]:
    """Return what the export of a finished point records about itself, such as its name and steps.

    Raises:
        ValueError: its ``model.yaml`` is damaged.
    """
    loaded = read_yaml(point / "model.yaml")
    found = loaded.get("about") if isinstance(loaded, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise ValueError("it says nothing about itself")
    return found


def _results(point: Path) -> tuple[int | None, float | None, float | None]:
    """Step, bpp and PSNR at the finest rate of a finished point."""
    try:
        said = about(point)
        rows = read(point / "rd_summary.json").get("points", [])
        own = [row for row in rows if row["codec"] == said["name"]]
        finest: dict[str, Any] = max(own, key=lambda row: row["rate"], default={})
    except (OSError, ValueError, TypeError, KeyError):  # damaged: the numbers stay empty
        return None, None, None
    return said.get("steps"), finest.get("bpp"), finest.get("psnr")
