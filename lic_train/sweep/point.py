"""Run one point of a sweep as its own process and record how it ended.

``python -m lic_train.sweep.point DIRECTORY``. The point itself is ``python -m lic_train`` with its
directory as ``hydra.run.dir``: when started again, it resumes from its checkpoint. It inherits the
lock, so that it is known to be running even if the process that started it was killed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from lic_train.runs.record import read
from lic_train.sweep.state import CHECKPOINT, LOCK, POINT, STATE, STDERR, STDOUT, SweepError, write
from lic_train.utils.safe_path import python_module, safe_environment

TAKEN = 75
"""Exit code if another process is already running the point."""
PATIENCE_S = 3.0
"""Seconds to retry the lock: a process that checks it holds it for a moment."""


class PointProcess:
    """A point as a callable, which is what submitit pickles and requeues."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def __call__(self, directory: str) -> int:
        """Run the point until it ends.

        Args:
            directory: of the point.

        Returns:
            Its exit code, negative for the signal that killed it; ``TAKEN`` if another process is
            already running it.
        """
        point = Path(directory)
        # Of the tasks of a Slurm job, the first speaks for all.
        leads = os.environ.get("SLURM_PROCID", "0") == "0"
        with (
            (point / LOCK).open("a") as lock,
            (point / STDOUT).open("ab") as out,
            (point / STDERR).open("ab") as err,
        ):
            if leads and not _taken(lock):
                print(f"lic_train: {point} is being run by another process", file=sys.stderr)
                return TAKEN
            before = err.tell()
            self.process = subprocess.Popen(
                python_module("lic_train", *read(point / POINT)["command"]),
                env=safe_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=[lock.fileno()],
            )
            started = {"machine": os.uname().nodename, "pid": self.process.pid}
            started |= {"started": time.strftime("%Y-%m-%d %H:%M:%S")}
            started |= {"lives": read(point / STATE).get("lives", 0) + 1}
            started |= {"went_on": (point / CHECKPOINT).is_file()}
            if leads:
                _note(point, started)
            if self.stopping:  # the word came before there was anybody to hear it
                self.stop()
            code = self.process.wait()
            if leads:
                why = _last_line(point / STDERR, before)
                _note(point, started | {"code": code, "why": why})
            return code

    def stop(self, *_: Any) -> None:
        """Ask the run to write a checkpoint and exit; also a signal handler."""
        self.stopping = True
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def checkpoint(self, directory: str) -> Any:
        """Stop in time and be queued again, called by submitit when Slurm announces the limit.

        Args:
            directory: of the point.

        Returns:
            What submitit is to submit next.
        """
        from submitit.helpers import DelayedSubmission

        self.stop()
        if self.process is not None:
            # Not `wait`: this interrupts one, in the same thread, that holds its lock.
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        point = Path(directory)
        _note(point, read(point / STATE) | {"requeued": True})
        return DelayedSubmission(PointProcess(), directory)


def _taken(lock: IO[Any]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)


def _note(point: Path, state: dict[str, Any]) -> None:
    try:
        write(point / STATE, state)
    except SweepError as error:  # the run matters more than the word about it
        print(f"lic_train: {error}", file=sys.stderr)


def _last_line(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("lic_train: error: ") if said else ""


def main() -> None:
    """Run the point that ``sys.argv`` names, pass SIGTERM on to it, and exit with its code."""
    point = PointProcess()
    signal.signal(signal.SIGTERM, point.stop)
    code = point(sys.argv[1])
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
