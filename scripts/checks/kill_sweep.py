"""Sweep six points twice, once in peace and once killed twice; compare what came out.

    python scripts/checks/kill_sweep.py OUT [OVERRIDES ...]

First the launcher and with it every process of the sweep is killed (a power cut), then a point
alone; after each the same command resumes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load_file

from lic_train.rd.points import read_csv
from lic_train.sweep.state import RUNNING, STATE, points_of, read, status

LAMBDAS = "0.0018,0.0035,0.0067,0.0130,0.0250,0.0483"
SMALL = [
    *("experiment=edic_gmm", "debug=fast", "data.crop_size=64", "data.eval_crop=64", "logger=csv"),
    *("model.N=8", "model.M=16", "model.enhancement_channels=4", "model.enhancement_blocks=1"),
    *("trainer.max_steps=60", "trainer.val_check_interval=20"),
    "callbacks.checkpoint.every_n_steps=3",
]


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """The one line, of a session of its own."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "lic_train",
        "-m",
        *SMALL,
        f"lmbda={LAMBDAS}",
        *overrides,
    ]
    return subprocess.Popen([*command, f"hydra.sweep.dir={folder}"], start_new_session=True)


def wait_for_checkpoint(point: Path, launcher: subprocess.Popen[bytes]) -> None:
    """Until a point is in mid-training, two checkpoints old."""
    while not (point / "checkpoints" / "previous.ckpt").exists():
        if launcher.poll() is not None:
            sys.exit(f"the sweep ended before {point.name} was in mid-training")
        time.sleep(0.05)


def kill(pid: int) -> None:
    """SIGKILL to a process and to those it started, which their group tells."""
    with suppress(ProcessLookupError):
        os.killpg(os.getpgid(pid), signal.SIGKILL)


def outcome(point: Path) -> tuple[str, list[tuple[object, ...]]]:
    """sha256 of the exported weights, and the rows."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(point / "model.safetensors").items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest(), rows(point)


def rows(folder: Path) -> list[tuple[object, ...]]:
    """What a table of RD points says but for the seconds."""
    return [
        (r.image, r.codec, r.rate, r.lmbda, r.bytes, r.bpp_estimated, r.psnr, r.ms_ssim)
        for r in read_csv(folder / "rd_points.csv")
    ]


def report(sweep: Path) -> tuple[object, ...]:
    """What the report and its tables say but for the seconds."""
    files = sweep / "report_files"
    return rows(sweep), rows(files), (files / "bd_rate.csv").read_text()


def main() -> None:
    """Two sweeps, one of them killed twice, and a verdict."""
    out, overrides = Path(sys.argv[1]).resolve(), sys.argv[2:]
    calm, harried = out / "calm", out / "harried"
    points = [harried / f"lmbda={float(value):g}" for value in LAMBDAS.split(",")]

    launcher = start(harried, overrides)
    wait_for_checkpoint(points[1], launcher)
    kill(launcher.pid)
    launcher.wait()
    for point in points:
        if status(point).state == RUNNING:
            kill(read(point / STATE)["pid"])

    launcher = start(harried, overrides)
    wait_for_checkpoint(points[3], launcher)
    os.kill(read(points[3] / STATE)["pid"], signal.SIGKILL)
    codes = [launcher.wait(), start(harried, overrides).wait(), start(calm, overrides).wait()]

    print("point          lives  went on  weights and rows as in peace")
    same = []
    for point, peaceful in zip(points_of(harried), points_of(calm), strict=True):
        state = read(point / STATE)
        same.append(outcome(point) == outcome(peaceful))
        print(f"{point.name:13}  {state['lives']:5}  {state['went_on']!s:7}  {same[-1]}")
    print(f"exit codes: a point killed {codes[0]}, continued {codes[1]}, in peace {codes[2]}")
    alike = report(harried) == report(calm)
    count = f"{sum(same)} of {len(same)} points the same"
    print(f"{count}; the report's rows and BD-rates {'the same' if alike else 'DIFFER'}")
    sys.exit(0 if all(same) and alike and codes == [1, 0, 0] else 1)


if __name__ == "__main__":
    main()
