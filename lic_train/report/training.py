"""How the runs of a report were trained: rate and distortion over batches, drawn as plain SVG."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from lic_train.figures.curves import COLOURS
from lic_train.report.runs import Run
from lic_train.runs.names import title

PANELS = {"train/bpp_estimated": "bits per pixel, estimated", "train/distortion": "distortion"}
RUNS, POINTS = 12, 160
"""At most so many runs, and points of a line."""
W, H, LEFT, BOTTOM = 540, 250, 54, 26
Line = list[tuple[float, float]]


def training_curves(runs: Sequence[Run]) -> str:
    """Two charts and their legend; empty where no run kept a log."""
    logs: dict[str, dict[str, Line]] = {}
    for run in runs:
        if not run.about["evaluation"] and len(logs) < RUNS and (found := read_log(run.path)):
            logs.setdefault(_name(run, taken=logs), found)
    if not logs:
        return ""
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(logs)}
    legend = "".join(
        f'<span><i class="key" style="background:{colours[name]}"></i>{escape(name)}</span> '
        for name in logs
    )
    charts = "".join(
        _chart(label, {name: log[key] for name, log in logs.items() if log.get(key)}, colours)
        for key, label in PANELS.items()
    )
    return f'<p class="names">{legend}</p><div class="training">{charts}</div>'


def read_log(run: Path) -> dict[str, Line]:
    """Batch and value of every logged number of the panels, each thinned to ``POINTS`` means."""
    lines: dict[str, Line] = {key: [] for key in PANELS}
    with suppress(OSError, ValueError, csv.Error, UnicodeDecodeError):
        with (run / "logs" / "version_0" / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                for key, line in lines.items():
                    if row.get(key) and row.get("step"):
                        line.append((float(row["step"]), float(row[key])))
    return {key: _thinned(line) for key, line in lines.items() if len(line) > 1}


def _name(run: Run, taken: dict[str, dict[str, Line]]) -> str:
    lmbda = run.config.get("lmbda")
    name = str(run.config.get("title") or title(str(run.config.get("name", run.label)), lmbda))
    return name if name not in taken else f"{name} ({run.label})"


def _thinned(line: Line) -> Line:
    """Means of neighbours: single batches are noisy."""
    size = -(-len(line) // POINTS)
    groups = [line[i : i + size] for i in range(0, len(line), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def _chart(label: str, lines: dict[str, Line], colours: dict[str, str]) -> str:
    """Lines over batches; the vertical axis is logarithmic."""
    drawn = {
        n: [(x, y) for x, y in line if y > 0 and math.isfinite(y)] for n, line in lines.items()
    }
    points = [point for line in drawn.values() for point in line]
    if not points:
        return ""
    right = max(x for x, _ in points) or 1.0
    low, high = (math.log(bound(y for _, y in points)) for bound in (min, max))
    margin = 0.05 * (high - low) or 0.1
    low, high = low - margin, high + margin

    def at(x: float, y: float) -> str:
        across = LEFT + x / right * (W - LEFT - 10)
        down = 10 + (high - math.log(y)) / (high - low) * (H - BOTTOM - 10)
        return f"{across:.1f},{down:.1f}"

    parts = [f'<svg viewBox="0 0 {W} {H}" role="img" aria-label="{escape(label)}">']
    parts.append(f'<path d="M{LEFT} 10V{H - BOTTOM}H{W - 10}" class="axis"/>')
    for share in (0.0, 0.5, 1.0):
        value = math.exp(low + margin + share * (high - low - 2 * margin))
        down = at(0, value).partition(",")[2]
        parts.append(f'<text x="{LEFT - 6}" y="{down}" text-anchor="end">{value:.3g}</text>')
    parts.append(f'<text x="{W - 10}" y="{H - 8}" text-anchor="end">batch {right:.0f}</text>')
    parts.append(f'<text x="{LEFT + 8}" y="20">{escape(label)}</text>')
    for name, line in drawn.items():
        path = " ".join(at(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}"/>')
    return "".join([*parts, "</svg>"])
