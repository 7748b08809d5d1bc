"""Quality and rate saved after minutes of training, recipe by recipe, on one machine.

    python scripts/benchmarks/time_to_quality.py --data PHOTOS --eval HELD_OUT --out DIR \
        --minutes 5 15 --lmbda 0.0018 0.0067 --recipe "experiment=mean_scale" \
        --recipe "experiment=mean_scale model.start=wavelet"

Every recipe trains for every time and lambda from nothing: its batches are what the time allows
(a short training before it says how long one takes), so that its schedule ends when its time does.
The recipes take turns. Files are decoded by another process. Beside `time_to_quality.csv` (machine
and versions in each row) lies a figure of it. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lic_train.errors import LicError
from lic_train.experiment.build import build, compose
from lic_train.experiment.run import train
from lic_train.rd.bd import bd_rate
from lic_train.rd.curves import mean_curve, rates_saved
from lic_train.rd.points import RDPoint, read_csv
from lic_train.utils.environment import environment

ANCHORS = ("jpeg", "webp", "jpeg2000", "avif")
WARM, TIMED = 10, 30
"""Batches of the short training: those that pay for caches, and those that are timed."""


def settings(options: argparse.Namespace, recipe: str, lmbda: float) -> list[str]:
    """Overrides of one training; the recipe's own come last."""
    return [
        *("logger=csv", "data=image_folder", "data.crop_size=128", "data.batch_size=8"),
        *(f"data.root='{options.data}'", f"data.eval_root='{options.eval}'"),
        *(f"data.longest_side={options.longest_side}", f"lmbda={lmbda}", f"seed={options.seed}"),
        *("look_every=1000000", f"evaluation.anchors=[{','.join(ANCHORS)}]"),
        *shlex.split(recipe),
    ]


def seconds_per_batch(overrides: list[str], folder: Path) -> float:
    """Measured on a training that is thrown away."""
    ends: list[float] = []
    for steps in (WARM, WARM + TIMED):
        quick = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"]
        run_dir = f"hydra.run.dir='{folder / f'probe_{steps}'}'"
        cfg, _ = compose([*overrides, *quick, run_dir, "callbacks=progress"])
        cfg.logger = {}
        experiment = build(cfg)
        start = time.perf_counter()
        train(experiment, None)
        ends.append(time.perf_counter() - start)
    return (ends[1] - ends[0]) / TIMED


def rows_of(run_dir: Path, recipe: str, lmbda: float, minutes: float) -> list[dict[str, Any]]:
    """One row per rate of a finished run."""
    points = read_csv(run_dir / "rd_points.csv")
    codec = next(p.codec for p in points if p.bpp_estimated is not None)
    curve = mean_curve(points, codec)
    saved = {a: rates_saved(points, codec, a) for a in {p.codec for p in points} - {codec}}
    return [
        {"recipe": recipe, "lmbda": lmbda, "minutes": minutes, "rate": curve.rate[i]}
        | {"bpp": float(curve.bpp[i]), "psnr": float(curve.psnr[i])}
        | {f"saved_{a}": saved[a][i].on_mean_curve for a in ANCHORS if a in saved}
        | environment()
        for i in range(len(curve.rate))
    ]


def bd_rates(runs: list[Path]) -> dict[str, float | str]:
    """BD-rate of one recipe's lambdas against each anchor, or why there is none."""
    points: dict[tuple[Any, ...], RDPoint] = {}
    for run in runs:
        for p in read_csv(run / "rd_points.csv"):
            points[p.codec, p.image, p.lmbda, p.rate] = p
    rows = list(points.values())
    codec = next(p.codec for p in rows if p.bpp_estimated is not None)
    found: dict[str, float | str] = {}
    for anchor in ANCHORS:
        try:
            found[anchor] = bd_rate(mean_curve(rows, anchor), mean_curve(rows, codec))
        except LicError as error:
            found[anchor] = str(error)
    return found


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """PSNR, bits per pixel and the rate saved against JPEG over minutes; a line a recipe."""
    drawn = Figure(figsize=(12, 4), layout="constrained")
    columns = {"psnr": "PSNR (dB)", "bpp": "bits per pixel", "saved_jpeg": "% saved against JPEG"}
    for axes, (column, title) in zip(drawn.subplots(1, 3), columns.items(), strict=True):
        for recipe, lmbda in dict.fromkeys((r["recipe"], r["lmbda"]) for r in rows):
            own = [r for r in rows if (r["recipe"], r["lmbda"]) == (recipe, lmbda)]
            own.sort(key=lambda r: float(r["minutes"]))
            times, values = ([float(r[c]) for r in own] for c in ("minutes", column))
            axes.plot(times, values, marker="o", label=f"{recipe}, {lmbda}")
        axes.set(xlabel="minutes of training", title=title)
    drawn.axes[0].legend(fontsize=6)
    drawn.savefig(path, dpi=120)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="photographs to train on")
    parser.add_argument("--eval", type=Path, required=True, help="others, held out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--lmbda", type=float, nargs="+", default=[0.0067])
    parser.add_argument("--recipe", action="append", required=True, help="overrides, in quotes")
    parser.add_argument("--longest-side", type=int, default=768)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.data, options.eval = options.data.resolve(), options.eval.resolve()
    rows: list[dict[str, Any]] = []
    runs: dict[tuple[str, float], list[Path]] = {}
    for minutes in options.minutes:
        for lmbda in options.lmbda:
            for number, recipe in enumerate(options.recipe):
                run_dir = (options.out / f"recipe{number}_{lmbda}_{minutes:g}min").resolve()
                overrides = settings(options, recipe, lmbda)
                if not (run_dir / "rd_summary.json").is_file():
                    pace = seconds_per_batch(overrides, options.out)
                    steps = max(WARM, int(60 * minutes / pace))
                    more = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"]
                    command = [sys.executable, "-P", "-m", "lic_train", *overrides, *more]
                    subprocess.run([*command, f"hydra.run.dir='{run_dir}'"], check=True)
                rows += rows_of(run_dir, recipe, lmbda, minutes)
                runs.setdefault((recipe, minutes), []).append(run_dir)
                with (options.out / "time_to_quality.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, list(dict.fromkeys(k for r in rows for k in r)))
                    writer.writeheader()
                    writer.writerows(rows)
    figure(rows, options.out / "time_to_quality.png")
    table = Table("recipe", "min", "lambda", "bpp", "PSNR", *(f"% vs {a}" for a in ANCHORS))
    for r in rows:
        saved = (f"{r.get(f'saved_{a}', float('nan')):.1f}" for a in ANCHORS)
        numbers = (f"{r['minutes']:g}", f"{r['lmbda']:g}", f"{r['bpp']:.3f}", f"{r['psnr']:.2f}")
        table.add_row(r["recipe"], *numbers, *saved)
    console = Console()
    console.print(table)
    for (recipe, minutes), folders in runs.items():
        for anchor, value in bd_rates(folders).items():
            said = value if isinstance(value, str) else f"{value:+.1f} %"
            console.print(f"BD-rate of {recipe}, {minutes:g} min, against {anchor}: {said}")


if __name__ == "__main__":
    main()
