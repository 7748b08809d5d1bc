"""Every run, sweep, chain and evaluation below a folder, each as a row of what its files say."""

from __future__ import annotations

import csv
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lic_train.errors import DataError
from lic_train.runs.names import title
from lic_train.runs.record import ABOUT, EVALUATION, POINT, read

RECORD, SWEEP, CHAIN, STATE = "run.json", "sweep.json", "chain.json", "state.json"
JOINT = "joint.json"
"""Of a folder that holds the evaluations of all points of a sweep."""
SUMMARY, LOG = "rd_summary.json", Path("logs", "version_0", "metrics.csv")
CHECKPOINT = Path("checkpoints", "last.ckpt")
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
FAILED, WAITING = "failed", "waiting"
TAIL = 16 << 10
"""Bytes of a log's end that are read."""


@dataclass
class Row:
    """What is known of one run, sweep, chain or evaluation; what is not, is None."""

    name: str
    kind: str
    """"run", "sweep", "chain" or "evaluation"."""
    state: str
    path: Path
    step: int | None = None
    """Batches trained."""
    steps: int | None = None
    """Batches that the run will have; of a sweep or chain, how many runs it has."""
    s_per_step: float | None = None
    end_in_s: float | None = None
    """Seconds until a running one has all its batches, at the speed it has."""
    lmbda: float | None = None
    bpp: float | None = None
    """Of files, mean over the images, at the finest rate."""
    psnr: float | None = None
    bd_rate: dict[str, float] = field(default_factory=dict)
    """Percent, by what it is against."""
    machine: str = ""
    age_s: float | None = None
    """Seconds since anything was written."""
    why: str = ""
    """Why a failed one ended."""
    depth: int = 0
    """How many sweeps or chains it is part of."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Flat, of a run or the run that an evaluation is of."""


def rows(directories: Sequence[Path]) -> list[Row]:
    """Rows in the order of their paths, those of a sweep or chain after it.

    Raises:
        DataError: a directory is not there, or holds nothing of the kind.
    """
    found: dict[Path, Row] = {}
    for directory in directories:
        if not directory.is_dir():
            raise DataError(f"{directory} is no directory: give runs, sweeps or folders of them")
        for path, depth in _folders(directory.resolve()):
            if path not in found and (row := _row(path)):
                row.depth = depth
                found[path] = row
    if not found:
        where = ", ".join(map(str, directories))
        raise DataError(f"{where} holds no run, sweep or evaluation")
    return list(found.values())


def held(lock: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _folders(folder: Path, depth: int = 0) -> Iterator[tuple[Path, int]]:
    """What holds a record of ours, from the top; nothing below a run is looked at."""
    names = {}
    with suppress(OSError), os.scandir(folder) as entries:
        names = {e.name: e.is_dir(follow_symlinks=False) for e in entries}
    many = any(name in names for name in (SWEEP, CHAIN, JOINT))
    one = not many and any(n in names for n in (RECORD, ABOUT, POINT, EVALUATION, SUMMARY))
    if many or one:
        yield folder, depth
    if not one:
        for name in sorted(n for n, is_dir in names.items() if is_dir and not n.startswith(".")):
            yield from _folders(folder / name, depth + many)


def _row(path: Path) -> Row | None:
    for record, kind in ((SWEEP, "sweep"), (CHAIN, "chain")):
        if (path / record).is_file():
            return _many(path, kind, read(path / record))
    if (path / JOINT).is_file():
        name = f"evaluation of sweep {read(path / JOINT).get('label', '')}"
        return Row(name, "evaluation", FINISHED, path, age_s=_age(path, SUMMARY))
    if not any((path / name).is_file() for name in (RECORD, ABOUT, POINT)):
        return _evaluation(path)
    return _run(path)


def _run(path: Path) -> Row:
    about, settings = read(path / ABOUT), read(path / RECORD)
    point, seen = read(path / POINT), read(path / STATE)
    settings = settings or dict(point.get("settings") or {})
    name, lmbda = str(settings.get("name", path.name)), _number(settings.get("lmbda"))
    called = about.get("title") or title(name, lmbda)
    state, why = _state(path, seen, bool(point))
    row = Row(str(called), "run", state, path, lmbda=lmbda, settings=settings, why=why)
    row.machine = str(seen.get("machine") or about.get("machine") or "")
    row.steps = _whole(settings.get("trainer.max_steps"))
    _read_log(row, path / LOG)
    if state == FINISHED:
        row.bpp, row.psnr = _finest(path, name)
    if state == RUNNING and row.s_per_step and row.step is not None and row.steps:
        row.end_in_s = row.s_per_step * max(0, row.steps - row.step)
    row.age_s = _age(path, RECORD, POINT, STATE, SUMMARY, str(LOG), str(CHECKPOINT))
    return row


def _state(path: Path, seen: dict[str, Any], is_point: bool) -> tuple[str, str]:
    """How a run is doing, and why it failed; its process need not be of this machine."""
    if held(path / "run.lock") or held(path / "point.lock"):
        return RUNNING, ""
    summary, last = _changed(path / SUMMARY), _changed(path / CHECKPOINT)
    # A run that is lengthened and killed has an old summary beside a newer checkpoint.
    if summary is not None and (path / "model.yaml").is_file() and summary >= (last or 0):
        return FINISHED, ""
    code = seen.get("code")
    if isinstance(code, int) and 0 < code <= 128:  # beyond: a signal
        return FAILED, str(seen.get("why") or f"exit code {code}")
    if is_point and (seen.get("requeued") or not seen):
        return WAITING, ""
    return STOPPED, ""


def _evaluation(path: Path) -> Row | None:
    points = _points(path)
    own = [p for p in points if p.get("bpp_estimated") is not None]
    if not own:
        return None
    record, finest = read(path / EVALUATION), max(own, key=lambda p: p.get("rate", 0))
    name, lmbda = str(finest.get("codec")), _number(finest.get("lmbda"))
    called = record.get("title") or title(name, lmbda)
    row = Row(f"{called} on {finest.get('dataset')}", "evaluation", FINISHED, path, lmbda=lmbda)
    row.bpp, row.psnr = _number(finest.get("bpp")), _number(finest.get("psnr"))
    row.settings = dict(record.get("config") or {})
    row.age_s = _age(path, SUMMARY)
    return row


def _many(path: Path, kind: str, record: dict[str, Any]) -> Row:
    """A sweep or a chain: how many of its runs are finished."""
    if kind == "sweep":
        parts = [path / str(label) for label in record.get("points", [])]
    else:
        stages = enumerate(record.get("stages", []), start=1)
        parts = [path / f"{number}_{stage}" for number, stage in stages]
    states = [_state(part, read(part / STATE), kind == "sweep")[0] for part in parts]
    done, state = states.count(FINISHED), STOPPED
    if RUNNING in states or held(path / "sweep.lock"):
        state = RUNNING
    elif done == len(parts):
        state = FINISHED
    elif FAILED in states:
        state = FAILED
    name = f"{kind} {'/'.join(path.parts[-2:]) if kind == 'sweep' else record.get('chain', '')}"
    row = Row(name, kind, state, path, step=done, steps=len(parts))
    row.bd_rate = _bd_rates(path / "report_files" / "bd_rate.csv")
    row.age_s = _age(path, SWEEP, CHAIN, SUMMARY)
    return row


def _bd_rates(table: Path) -> dict[str, float]:
    """Of each trained codec of a sweep against its first anchor."""
    found: dict[str, float] = {}
    with suppress(OSError, csv.Error, KeyError), table.open(newline="") as file:
        lines = list(csv.DictReader(file))
        codecs = {line["codec"] for line in lines}
        for line in lines:
            value = _number(line["bd_rate"])
            if line["anchor"] not in codecs and value is not None:
                label = line["anchor"] if len(codecs) == 1 else f"{line['codec']} {line['anchor']}"
                found.setdefault(label, value)
    return found


def _read_log(row: Row, log: Path) -> None:
    """Step, speed and BD-rates from the last lines of a log, however long it is."""
    with suppress(OSError, csv.Error, ValueError), log.open("rb") as file:
        header = file.readline().decode(errors="replace")
        file.seek(max(file.tell(), log.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        names = next(csv.reader([header]))
        for values in csv.reader(lines):
            if len(values) != len(names):  # the tail begins within a line
                continue
            entry = {name: value for name, value in zip(names, values, strict=True) if value}
            step = int(entry.get("step", 0)) + ("train/loss" in entry)
            row.step = max(step, row.step or 0)
            row.s_per_step = _number(entry.get("speed/s_per_step")) or row.s_per_step
            for key, value in entry.items():
                number = _number(value)
                if key.startswith("rd/bd_rate/") and number is not None:
                    row.bd_rate[key.removeprefix("rd/bd_rate/")] = number


def _points(path: Path) -> list[dict[str, Any]]:
    found = read(path / SUMMARY).get("points")
    return [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []


def _finest(path: Path, name: str) -> tuple[float | None, float | None]:
    own = [p for p in _points(path) if p.get("codec") == name]
    finest = max(own, key=lambda p: p.get("rate", 0), default={})
    return _number(finest.get("bpp")), _number(finest.get("psnr"))


def _changed(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _age(path: Path, *names: str) -> float | None:
    times = [t for name in names if (t := _changed(path / name)) is not None]
    return max(0.0, time.time() - max(times)) if times else None


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        return float(value)
    return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
