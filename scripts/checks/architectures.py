"""Every image architecture of the installed CompressAI: trained a little, exported, judged.

    python scripts/checks/architectures.py PHOTOS [--arch NAME ...] [--batches 20] [--out FOLDER]

Each is a run of ``python -m lic_train experiment=compressai`` of its own: 20 batches of 64x64
crops, an export, three photographs of at most 256 pixels a side coded to files, which another
process decodes. Prints a table: bits per pixel of the files, how much longer they are than their
likelihoods promise, how far eval-mode forward is from them, seconds; and why any failed.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lic_train.modules.codecs.base.architectures import architectures

SIZES = {"cheng": (32, None), "elic": (32, 144)}
"""N and M of those that have not got both, or cannot be that narrow; by how names begin."""


def command(arch: str, photos: Path, run: Path, batches: int) -> list[str]:
    """The training of one architecture at small widths."""
    N, M = next((size for name, size in SIZES.items() if arch.startswith(name)), (32, 48))
    return [
        *(sys.executable, "-W", "ignore", "-m", "lic_train", "experiment=compressai"),
        *(f"model.arch={arch}", f"model.N={N}", f"model.M={'null' if M is None else M}"),
        *("data=image_folder", f"data.root={photos}", "data.longest_side=256"),
        *("data.crop_size=64", "data.batch_size=4", "data.eval.limit=3", "data.num_workers=0"),
        *(f"trainer.max_steps={batches}", f"trainer.val_check_interval={batches}"),
        *("trainer.accelerator=cpu", "optimizer=adam", "logger=csv", f"hydra.run.dir={run}"),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    """A table of a run."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def judged(run: Path, name: str = "compressai") -> str:
    """One row of the table: means over photographs and, where there are several, rates."""
    points = [row for row in rows(run / "rd_points.csv") if row["codec"] == name]
    mean = {
        key: statistics.fmean(float(row[key]) for row in points)
        for key in ("bpp", "psnr", "encode_s", "decode_s")
    }
    gaps = rows(run / "rate_gap.csv")
    written = sum(8 * int(row["bytes"]) for row in gaps)
    promised = sum(float(row["estimated"]) for row in gaps)
    forward = [
        float(row["forward_psnr"]) - float(row["file_psnr"])
        for row in rows(run / "forward_gap.csv")
    ]
    return (
        f"{len(points):5d} {mean['bpp']:7.3f} {mean['psnr']:7.2f} "
        f"{100 * (written / promised - 1):+8.2f} {statistics.fmean(forward):+9.3f} "
        f"{max(forward, key=abs):+9.3f} {mean['encode_s']:8.2f} {mean['decode_s']:8.2f}"
    )


def main() -> None:
    """Run all, print a row each; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--arch", nargs="+", default=architectures(), metavar="NAME")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    options = parser.parse_args()
    print(
        f"{'architecture':30} {'files':>5} {'bpp':>7} {'PSNR dB':>7} {'file, %':>8} {'fwd, dB':>9} "
        f"{'largest':>9} {'encode s':>8} {'decode s':>8} {'run s':>6}"
    )
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for arch in options.arch:
            run, start = (options.out or Path(scratch)).resolve() / arch, time.perf_counter()
            line = command(arch, options.photos.resolve(), run, options.batches)
            done = subprocess.run(line, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            if done.returncode:
                failed += 1
                print(f"{arch:30} FAILED: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
            else:
                print(f"{arch:30} {judged(run)} {seconds:6.0f}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
