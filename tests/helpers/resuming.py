"""What a finished run is compared by, and waiting for a running one."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from lic_train.rd.points import read_csv


def outcome(run: Path) -> tuple[str, list[tuple[Any, ...]]]:
    """Hash of the exported weights' tensors, and the rows without their seconds."""
    from safetensors.torch import load_file

    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(run / "model.safetensors").items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    rows = [
        (p.image, p.codec, p.rate, p.bytes, p.bpp_estimated, p.psnr, p.ms_ssim)
        for p in read_csv(run / "rd_points.csv")
    ]
    return digest.hexdigest(), rows


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")
