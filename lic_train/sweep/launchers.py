"""The points of a sweep run as processes of this machine or as jobs of a Slurm cluster."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lic_train.runs.listing import held
from lic_train.runs.record import read
from lic_train.sweep.point import PointProcess
from lic_train.sweep.state import JOB, LOCK, STATE, STDERR, SweepError, write
from lic_train.utils.safe_path import python_module, safe_environment


class Launcher(Protocol):
    """Starts points and knows which of them are alive, even those that an earlier sweep started."""

    poll_s: float
    """Seconds between two checks of the points."""
    on_stop: str
    """What happens to living points when the sweep is stopped, in words for the user."""

    def room(self, running: int) -> bool:
        """Return whether one more point may run beside ``running`` others."""

    def start(self, point: Path) -> None:
        """Start or resume a point.

        Args:
            point: its directory, entered by ``plan.enter``.

        Raises:
            SweepError: it cannot be started.
        """

    def alive(self, point: Path) -> bool:
        """Return whether a point is running or waiting in a queue.

        Args:
            point: its directory.

        Raises:
            SweepError: the queue cannot be queried.
        """

    def stop(self) -> None:
        """End the points that do not outlive the sweep, and wait for their checkpoints."""


class Local(Launcher):
    """Runs a number of processes at a time on this machine.

    Args:
        jobs: maximum number of points at a time, at least 1.
        gpus: numbers of the GPUs, assigned in turn; ``None``: every point sees all visible GPUs.

    Raises:
        SweepError: ``jobs`` is below 1, or ``gpus`` is empty.
    """

    poll_s = 0.2
    on_stop = "its points were stopped"

    def __init__(self, jobs: int = 1, gpus: Sequence[int] | None = None) -> None:
        if jobs < 1 or (gpus is not None and not gpus):
            raise SweepError(f"hydra.launcher: jobs is {jobs}, gpus {gpus}; give one or more")
        self.jobs = jobs
        self.slots = [None if gpus is None else gpus[i % len(gpus)] for i in range(jobs)]
        self.processes: dict[Path, tuple[int, subprocess.Popen[bytes]]] = {}

    def room(self, running: int) -> bool:
        return running < self.jobs

    def start(self, point: Path) -> None:
        taken = {slot for slot, process in self.processes.values() if process.poll() is None}
        slot = next(i for i in range(self.jobs) if i not in taken)
        gpu = self.slots[slot]
        visible = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
        command = python_module("lic_train.sweep.point", str(point))
        with (point / STDERR).open("ab") as log:
            # Nothing ties it to the sweep: neither its terminal's Ctrl-C, which the sweep hands on
            # as it sees fit, nor a pipe that breaks.
            process = subprocess.Popen(
                command,
                env=safe_environment(visible),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[point] = slot, process

    def alive(self, point: Path) -> bool:
        own = self.processes.get(point)
        return (own is not None and own[1].poll() is None) or held(point / LOCK)

    def stop(self) -> None:
        living = [process for _, process in self.processes.values() if process.poll() is None]
        for process in living:
            process.terminate()
        for process in living:
            process.wait()


class Slurm(Launcher):
    """Submits a job for every point with submitit, which requeues it when its time is up.

    Args:
        options: options of sbatch by submitit's names; those that are ``None`` are left out.
        max_requeues: how often a point may reach its time limit.
        poll_s: seconds between two looks at the queue.
    """

    on_stop = "its jobs stay in the queue (scancel ends them)"
    grace_s = 30.0
    """Seconds that a shared file system may take to show what a job wrote last."""

    def __init__(
        self, options: Mapping[str, Any], max_requeues: int = 100, poll_s: float = 10
    ) -> None:
        self.options = {key: value for key, value in options.items() if value is not None}
        self.max_requeues = max_requeues
        self.poll_s = poll_s
        self._queue: tuple[float, set[str] | None] = (0.0, None)
        self._seen: dict[Path, float] = {}

    def room(self, running: int) -> bool:
        return True

    def start(self, point: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise SweepError('hydra/launcher=slurm: pip install "lic_train[slurm]"') from None
        try:
            executor = submitit.SlurmExecutor(
                folder=point / "slurm", max_num_timeout=self.max_requeues
            )
            executor.update_parameters(**{"job_name": point.name} | self.options)
            job = executor.submit(PointProcess(), str(point))
        except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
            raise SweepError(f"hydra/launcher=slurm: {' '.join(str(error).split())}") from None
        write(point / JOB, {"job": job.job_id})
        self._queue = 0.0, None

    def alive(self, point: Path) -> bool:
        if (job := read(point / JOB).get("job")) is None:
            return False
        now, queue = time.monotonic(), self._jobs()
        if queue is None or job in queue or held(point / LOCK):
            self._seen[point] = now
            return True
        if "code" in read(point / STATE):
            return False
        return now - self._seen.get(point, -math.inf) < self.grace_s

    def stop(self) -> None:
        """Do nothing: the jobs stay in the queue."""

    def _jobs(self) -> set[str] | None:
        """Numbers of this user's jobs that have not ended; None while the controller is silent."""
        seen, jobs = self._queue
        if time.monotonic() - seen > self.poll_s / 2:
            try:
                said = subprocess.run(
                    ["squeue", "--me", "--noheader", "--format=%A"], capture_output=True, text=True
                )
                jobs = set(said.stdout.split()) if said.returncode == 0 else None
            except FileNotFoundError:
                raise SweepError("hydra/launcher=slurm: there is no squeue here") from None
            self._queue = time.monotonic(), jobs
        return jobs
