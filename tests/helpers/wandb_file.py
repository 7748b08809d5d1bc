"""Reads what W&B wrote offline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from lic_train.rd.points import RDPoint, write_csv


def rows() -> list[RDPoint]:
    """Two images at four rates of a codec, and an anchor that needs a quarter more."""
    made = []
    for image, more in (("a", 0.0), ("b", 2.0)):
        for rate, (size, psnr) in enumerate([(100, 28.0), (200, 31.0), (400, 34.0), (800, 37.0)]):
            for codec, cost in (("mine", 1.0), ("jpeg", 1.25)):
                size_of, mine = int(size * cost), codec == "mine"
                bpp = 8 * size_of / 1024
                head = ("set", image, codec, rate, 0.01 if mine else None, 32, 32, size_of, bpp)
                rest = (
                    bpp * 0.99 if mine else None,
                    psnr + more,
                    0.9 + rate / 100,
                    0.2,
                    0.3,
                    "cpu",
                )
                made.append(RDPoint(*head, *rest))
    return made


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """What a finished run holds when its loggers are told."""
    write_csv(rows(), tmp_path / "rd_points.csv")
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / "model.yaml").write_text("model: {}")
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (8, 6), "red").save(tmp_path / "figures" / "rd_curve.png")
    yield tmp_path
    wandb.finish()


class WandbFile:
    """An offline run, read by W&B's own reader."""

    def __init__(self, run_dir: Path) -> None:
        (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
        self.files = path.parent / "files"
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        self.records = [json.loads(line) for line in done.stdout.splitlines()]
        self.run = self.of("run")[0]["run"]
        self.history = [record["history"]["item"] for record in self.of("history")]
        self.last = {key: value for item in self.history for key, value in item.items()}

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == kind]
