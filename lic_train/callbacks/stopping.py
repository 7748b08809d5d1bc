"""Leaving when a cluster says so: a signal is noted, and obeyed where a run can resume from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytorch_lightning as pl
import torch
from torch import distributed

from lic_train.utils.ranks import Leaving

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What announces the end: Ctrl-C, of which a second one does not wait; a scheduler's SIGTERM;
SIGUSR1, by which Slurm warns beforehand (``sbatch --signal=USR1@120``) and after which the job
wants to be queued again; SIGUSR2, by which submitit is warned, which queues jobs again by itself.
"""


class Stopped(SystemExit):
    """The run left on a signal, after batch ``step``, with a checkpoint to resume from."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.args = (signum, step)
        self.signum = signal.Signals(signum)
        self.step = step


class Stopping:
    """Notes the signals of this process and agrees about them with those of the other ranks.

    A handler that did more than note them would do it in the middle of a step, and not at the
    same one on every rank.
    """

    def __init__(self) -> None:
        self._noted = 0

    def listen(self) -> None:
        """From now on signals are noted. Lightning puts the former handlers back after training."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        if signum == signal.SIGINT:
            if self._noted == signal.SIGINT:
                raise KeyboardInterrupt
            print("\nlic_train: stopping after this batch; Ctrl-C again ends at once",
                  file=sys.stderr)  # fmt: skip
        self._noted = self._noted or signum

    def told(self, trainer: pl.Trainer) -> int:
        """The signal that any rank has been sent, else 0. All ranks call this together."""
        if trainer.world_size == 1:
            return self._noted
        noted = torch.tensor(self._noted, device=trainer.strategy.root_device)
        distributed.all_reduce(noted, distributed.ReduceOp.MAX)
        return int(noted)

    def leave(self, trainer: pl.Trainer, signum: int, step: int) -> None:
        """End this rank; the first one tells why."""
        raise Stopped(signum, step) if trainer.is_global_zero else Leaving


def requeue() -> str:
    """Ask Slurm to queue this job again; what came of it, in words, "" outside of Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return ""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        return f"Slurm job {job} could not be queued again: scontrol: {error.strerror}"
    if done.returncode:
        return f"Slurm job {job} could not be queued again: {' '.join(done.stderr.split())}"
    return f"Slurm job {job} is queued again"
