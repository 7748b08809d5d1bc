"""Is the device there, and what time is it there."""

from __future__ import annotations

import time

import torch

from lic_train.errors import ModelError


def check_device(device: str) -> None:
    """Look before anything long begins.

    Raises:
        ModelError: there is no such device here.
    """
    try:
        usable = torch.device(device).type in ("cpu", "cuda")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter from a torch built without CUDA
        usable = False
    if not usable:
        raise ModelError(f"there is no device {device!r} here: give cpu or, with a GPU, cuda")


def clock(device: str | torch.device) -> float:
    """Seconds on a monotonic clock, read when all that was given to the device is done.

    A GPU call returns before its work does: unsynchronised timings are too good.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
