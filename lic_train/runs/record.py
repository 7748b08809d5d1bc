"""What a run and an evaluation write down of themselves, for whoever lists and compares them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lic_train.utils.configs import flat
from lic_train.utils.files import write_whole
from lic_train.utils.plain import NotPlainError, read_json, read_yaml

ABOUT, EVALUATION = "about.json", "evaluation.json"
POINT, CONFIG = "point.json", "config.yaml"


def read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file, or it is damaged."""
    with suppress(OSError, NotPlainError):
        loaded = read_json(path)
        return loaded if isinstance(loaded, dict) else {}
    return {}


def write_about(run_dir: Path, title: str, name: str, differs: Sequence[str]) -> None:
    """Write down what a run is called, where it runs, and since when."""
    said: dict[str, Any] = {"title": title, "name": name, "differs": list(differs)}
    said |= {"machine": os.uname().nodename}
    said["begun"] = read(run_dir / ABOUT).get("begun") or time.strftime("%Y-%m-%d %H:%M:%S")
    write_whole(run_dir / ABOUT, _text(said))


def title_of(run_dir: Path, name: str = "") -> str:
    """What a run is called; one that an earlier version wrote, by its name."""
    return str(read(run_dir / ABOUT).get("title") or name or run_dir.name)


def swept_of(run_dir: Path) -> list[str] | None:
    """Of a point of a sweep, what was swept beside lambda, e.g. ``model.N=64``; else None."""
    label = read(run_dir / POINT).get("label")
    parts = None if label is None else str(label).split(",")
    return None if parts is None else [p for p in parts if not p.startswith("lmbda=")]


def config_of(folder: Path) -> dict[str, Any]:
    """The settings of a run, flat: ``{"model.N": 64, ...}``; those of an evaluation are its run's.

    Raises:
        OSError, NotPlainError: the file cannot be read.
    """
    if (folder / CONFIG).is_file():
        return dict(flat(read_yaml(folder / CONFIG)))
    return dict(read(folder / EVALUATION).get("config") or {})


def write_evaluation(out: Path, run_dir: Path, overrides: Sequence[str]) -> None:
    """Write down of which run an evaluation is: its settings and what it was made with.

    Args:
        out: folder of the evaluation.
        run_dir: of the run.
        overrides: arguments of the model that differ from the run's.
    """
    about = read(run_dir / ABOUT)
    try:
        config = config_of(run_dir)
    except (OSError, NotPlainError):  # an export that somebody copied has none
        config = {}
    said = {"run": str(run_dir.resolve()), "title": about.get("title"), "set": list(overrides)}
    said |= {"differs": about.get("differs", []), "config": config, "swept": swept_of(run_dir)}
    said |= {"environment": read(run_dir / "environment.json")}
    write_whole(out / EVALUATION, _text(said))


def _text(said: dict[str, Any]) -> bytes:
    """JSON in which λ is readable, and a name that is no UTF-8 is escaped."""
    text = json.dumps(said, indent=1, ensure_ascii=False, default=str) + "\n"
    return text.encode(errors="backslashreplace")
