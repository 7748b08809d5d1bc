"""A run folder knows which run it is of, and belongs to one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from lic_train.errors import TrainingError
from lic_train.experiment import identity
from lic_train.utils.files import write_whole
from lic_train.utils.moved import moved_target
from lic_train.utils.plain import NotPlainError, read_yaml

RECORD, LOCK, CONFIG = "run.json", "run.lock", "config.yaml"
TRAINED = ("checkpoints/last.ckpt", "model.safetensors")
"""What a folder holds that there is something to lose in."""
LENGTH = ("trainer.max_steps", "scheduler.steps", "data.steps")
FREE = ("evaluation.*", "trainer.max_time", "trainer.val_check_interval", "trainer.profiler*")
SHAPE = ("data.batch_size", "ranks.*", "trainer.accumulate_grad_batches")
"""What a step is made of: a change is said when the checkpoint is read."""
WEIGHTS = "(weights)"
"""Ends the key of what is compared only where both are known: they may have been deleted."""
NAMED = 4
"""Differences that a message names."""


@contextmanager
def claimed(cfg: DictConfig) -> Iterator[Path]:
    """The run folder, for this run alone while the context lasts.

    A folder that is named belongs to one run: the same settings resume it, more batches lengthen
    it, other settings are refused before anything is written. A folder that nobody named, after
    the time of day, gets a suffix where it is taken. Of several ranks the first claims.

    Args:
        cfg: the run's; ``run_dir`` is set to the folder that is claimed.

    Raises:
        TrainingError: the folder is another run's, or another process writes it.
    """
    run_dir = Path(str(cfg.run_dir)).resolve()
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield run_dir
        return
    if not _is_named() and "LOCAL_RANK" not in os.environ:
        run_dir = _free(run_dir)
        cfg.run_dir = str(run_dir)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = identity.settings(plain) | _files(plain, run_dir) | _weights(plain)
    _refuse_other(run_dir, settings)
    made = not run_dir.exists()
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK).open("a+") as lock:
        _take(lock, run_dir)
        _refuse_other(run_dir, settings)  # again: another may have written it meanwhile
        try:
            write_whole(run_dir / RECORD, (json.dumps(settings, indent=1) + "\n").encode())
            yield run_dir
        finally:
            lock.truncate(0)
            left = {path.name for path in run_dir.iterdir()}
            if made and left <= {RECORD, LOCK}:  # refused before it began: as if nothing was
                for name in left:
                    (run_dir / name).unlink()
                run_dir.rmdir()


def _is_named() -> bool:
    """Whether the user, a sweep or a chain said which folder it is to be."""
    if not HydraConfig.initialized():
        return True
    hydra = HydraConfig.get()
    return str(hydra.mode).endswith("MULTIRUN") or any(
        override.startswith("hydra.run.dir=") for override in hydra.overrides.hydra
    )


def _files(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Of each data folder, its files by names and sizes: it may have moved, but not changed.

    Runs that lie below it are no data.
    """
    found: dict[str, Any] = {}
    for key in ("root", "eval_root"):
        given = (config.get("data") or {}).get(key)
        root = Path(str(given)).expanduser().resolve() if given else None
        if root is not None and root.is_dir():
            inside = root in run_dir.parents
            runs = run_dir if run_dir.parent == root else run_dir.parent
            paths = [p for p in root.rglob("*") if not (inside and runs in p.parents)]
            files = [(str(p.relative_to(root)), p.stat().st_size) for p in paths if p.is_file()]
            found[f"data.{key} (files)"] = identity.digest(sorted(files))
    return found


def _weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Which weights the run starts from, where they still are."""
    return {
        f"init_from.{label} {WEIGHTS}": identity.of_weights(Path(str(start["run"])).expanduser())
        for label, start in (config.get("init_from") or {}).items()
        if isinstance(start, Mapping) and start.get("run")
    }


def _free(run_dir: Path) -> Path:
    """The folder, or the first ``_2``, ``_3``, ... of it that is not there yet."""
    candidates = [run_dir, *(run_dir.with_name(f"{run_dir.name}_{i}") for i in range(2, 1000))]
    for candidate in candidates:
        candidate.parent.mkdir(parents=True, exist_ok=True)
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not any(candidate.iterdir()) and candidate == run_dir:  # Hydra makes the first
                with (candidate / LOCK).open("a+") as lock:
                    if _taken(lock):
                        return candidate
    raise TrainingError(f"{run_dir} and 998 others are taken: give hydra.run.dir")


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _take(lock: IO[str], run_dir: Path) -> None:
    if not _taken(lock):
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        raise TrainingError(
            f"{run_dir} is being written by {owner}: wait for it, or give another hydra.run.dir"
        )
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    lock.flush()


def _refuse_other(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Compare with the run that the folder holds, if it holds anything that could be lost."""
    if not any((run_dir / name).is_file() for name in TRAINED):
        return
    old = _recorded(run_dir)
    if old is None:
        return
    if (run_dir / RECORD).is_file():
        keys = sorted({*old, *settings})
    else:  # of a version that had fewer settings
        keys = sorted({*old} & {*settings})
    longer = old.get(LENGTH[0]) != settings.get(LENGTH[0])
    differ = [
        key
        for key in keys
        if old.get(key) != settings.get(key)
        and not _may_change(key, longer)
        and not (key.endswith(WEIGHTS) and not (old.get(key) and settings.get(key)))
    ]
    if differ:
        named = [f"{key} {_said(old, key)} -> {_said(settings, key)}" for key in differ[:NAMED]]
        rest = f" and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
        raise TrainingError(
            f"{run_dir} holds a run with other settings ({', '.join(named)}{rest}): give another "
            "hydra.run.dir, or its own settings"
        )
    before, now = old.get(LENGTH[0]), settings.get(LENGTH[0])
    if isinstance(before, int) and isinstance(now, int) and now != before:
        if now < before:
            raise TrainingError(
                f"{run_dir} holds a run of {before} batches, {LENGTH[0]}={now} is fewer: give "
                "another hydra.run.dir"
            )
        print(f"lic_train: {run_dir} is lengthened from {before} to {now} batches", file=sys.stderr)


def _recorded(run_dir: Path) -> dict[str, Any] | None:
    """Settings of the run that the folder holds; None where nobody wrote them down."""
    try:
        if (run_dir / RECORD).is_file():
            found: Any = json.loads((run_dir / RECORD).read_text())
        elif (run_dir / CONFIG).is_file():
            found = identity.settings(read_yaml(run_dir / CONFIG))
        else:
            return None
    except (OSError, ValueError, NotPlainError) as error:
        raise TrainingError(
            f"the record of {run_dir} cannot be read ({type(error).__name__}): give another "
            "hydra.run.dir"
        ) from None
    if not isinstance(found, dict):
        raise TrainingError(f"the record of {run_dir} is none: give another hydra.run.dir")
    names = {k: v for k, v in found.items() if k.endswith("_target_") and isinstance(v, str)}
    return {**found, **{key: moved_target(value) for key, value in names.items()}}


def _said(settings: Mapping[str, Any], key: str) -> str:
    return str(settings.get(key, "nothing"))[:60]


def _may_change(key: str, longer: bool) -> bool:
    """What follows from the number of batches may change with it, not alone."""
    free = (*FREE, *SHAPE, *(LENGTH if longer else ()))
    return any(fnmatchcase(key, name) for name in free)
