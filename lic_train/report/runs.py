"""What lies on disk of runs: their rows, settings, weights and pictures, read for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from lic_train.errors import DataError
from lic_train.rd.points import RDPoint, read_csv
from lic_train.runs.record import EVALUATION, swept_of
from lic_train.utils.configs import flat
from lic_train.utils.plain import NotPlainError, read_json, read_yaml

ROWS = "rd_points.csv"
REPEATS = ("sweep.json", "joint.json", "bd_rate.csv")
"""Of a sweep, of its evaluation and of a report: rows beside them are those of runs once more."""


@dataclass(frozen=True)
class Run:
    """A directory with rows: of a training run, an evaluation or anchors."""

    path: Path
    label: str
    """Its path as short as it is unique."""
    root: str
    """Name of the directory that was asked for."""
    points: list[RDPoint]
    config: dict[str, Any]
    """Flat: ``{"model.N": 64, ...}``; empty where there is none."""
    swept: list[str] | None
    """Of a point of a sweep, what was swept beside lambda, e.g. ``model.N=64``; else None. That of
    an evaluation is its run's, as its config is."""
    trained: Path
    """Folder of the training run: its own, or of an evaluation the run's that it is of."""
    about: dict[str, Any]
    """What the export, the anchors and the machine say of themselves."""

    def picture(self, kind: str, image: str, rate: int | None = None) -> Path | None:
        """A PNG that the run kept, ``originals`` or ``reconstructions``; None if it did not.

        Of a clip its last frame.
        """
        label = image.replace("/", "_")
        path = self.path / kind / f"{label}{'' if rate is None else f'_r{rate}'}.png"
        if path.is_file():
            return path
        frames = sorted(path.parent.glob(f"{escape(path.stem)}_[0-9][0-9][0-9].png"))
        return frames[-1] if frames else None


def find_runs(directories: Sequence[Path]) -> list[Run]:
    """All runs in and below ``directories``, in the order of their paths.

    The summary of a sweep and the files of a report repeat the rows of runs and are left out.

    Raises:
        DataError: a directory is not there or holds no rows, or rows cannot be read.
    """
    found: dict[Path, str] = {}
    for directory in directories:
        if not directory.is_dir():
            raise DataError(f"{directory} is no directory: give runs, sweeps or folders of them")
        rows = sorted(path.parent for path in directory.rglob(ROWS))
        runs = [path for path in rows if not any((path / name).is_file() for name in REPEATS)]
        if not runs:
            raise DataError(f"{directory} holds no {ROWS}: no run below it has finished")
        for path in runs:
            found.setdefault(path.resolve(), directory.resolve().name)
    labels = _labels(list(found))
    return [_read(path, labels[path], root) for path, root in found.items()]


def _read(path: Path, label: str, root: str) -> Run:
    evaluation = _mapping(path / EVALUATION)
    config = dict(flat(_mapping(path / "config.yaml"))) or _dict(evaluation.get("config"))
    exported = _mapping(path / "model.yaml")
    weights = path / "model.safetensors"
    about = {key: v for key, v in _dict(exported.get("about")).items() if key != "weights_mb"}
    if "lic_train" in exported:
        about["lic_train"] = exported["lic_train"]
    if weights.is_file():
        about["weights_mb"] = weights.stat().st_size / 1e6
    environment = _mapping(path / "environment.json") or _dict(evaluation.get("environment"))
    about |= {"environment": environment, "evaluation": bool(evaluation)}
    about |= {"set": _list(evaluation.get("set"))}
    anchors = _list(_mapping(path / "anchors.json").get("anchors"))
    about |= {"anchors": [anchor for anchor in anchors if isinstance(anchor, dict)]}
    swept = swept_of(path)
    if evaluation:
        kept = evaluation.get("swept")
        swept = [str(part) for part in kept] if isinstance(kept, list) else None
    trained = Path(str(evaluation.get("run") or path))
    return Run(path, label, root, read_csv(path / ROWS), config, swept, trained, about)


def _mapping(path: Path) -> dict[str, Any]:
    """A YAML or JSON file; empty if it is missing, as an evaluation's is."""
    try:
        loaded = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except FileNotFoundError:
        return {}
    except NotPlainError as error:
        raise DataError(f"{path} cannot be read ({error}): export again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    return _dict(loaded)


def _dict(value: Any) -> dict[str, Any]:
    """The value, if it is a mapping; else an empty one."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    """The value, if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    """The last parts of each path, as many as tell all of them apart."""
    for count in range(1, 1 + max(len(path.parts) for path in paths)):
        labels = {path: "/".join(path.parts[-count:]) for path in paths}
        if len(set(labels.values())) == len(paths):
            break
    return labels
