"""What is not the same in two runs: settings, code, data, environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lic_train.errors import DataError
from lic_train.runs.listing import RECORD
from lic_train.runs.record import CONFIG, EVALUATION, config_of, read
from lic_train.utils.plain import NotPlainError

PLACES = (
    "run_dir",
    "title",
    "tags",
    "notes",
    "report",
    "callbacks",
    "logger",
    "trainer.default_root_dir",
)
"""Settings that say where a run lies and who watches it."""
WATCHERS = ("callbacks.ema", "callbacks.late_quantise")
"""Callbacks that results depend on."""
FILES = ("(files)", "(images)", "(weights)")
"""Ends of the keys of a run's record that say which files it met."""


class Difference(NamedTuple):
    """One value that differs; None where one has none."""

    about: str
    """"settings", "commit", "data" or "environment"."""
    key: str
    old: Any
    new: Any


def differences(old: Path, new: Path) -> list[Difference]:
    """Everything that differs between two runs, or evaluations of them.

    Raises:
        DataError: a folder holds no run, or its settings cannot be read.
    """
    pairs = [(about, _said(old)[about], _said(new)[about]) for about in _said(old)]
    return [
        Difference(about, key, one.get(key), other.get(key))
        for about, one, other in pairs
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def _said(folder: Path) -> dict[str, dict[str, Any]]:
    if not any((folder / name).is_file() for name in (CONFIG, EVALUATION)):
        raise DataError(f"{folder} holds no {CONFIG}: give the folder of a run")
    try:
        config = config_of(folder)
    except (OSError, NotPlainError) as error:
        raise DataError(f"{folder / CONFIG} cannot be read: {error}") from None
    record, evaluation = read(folder / RECORD), read(folder / EVALUATION)
    environment = read(folder / "environment.json") or evaluation.get("environment") or {}
    commit = {key: v for key, v in environment.items() if key.startswith("commit")}
    return {
        "settings": {key: v for key, v in config.items() if not _is_place(key)}
        | {f"--set {s.partition('=')[0]}": s for s in evaluation.get("set") or []},
        "commit": commit,
        "data": {key: v for key, v in record.items() if key.endswith(FILES)},
        "environment": {key: v for key, v in environment.items() if key not in commit},
    }


def _is_place(key: str) -> bool:
    within = [key == name or key.startswith(f"{name}.") for name in PLACES]
    return any(within) and not key.startswith(WATCHERS)
