"""Reads what W&B wrote offline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


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
