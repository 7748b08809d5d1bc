"""The examination: settings first, then what is built of them; what breaks is a finding, too."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence

from lic_train import doctor
from lic_train.callbacks.checkpoints import LAST, newest_checkpoint
from lic_train.doctor.preflight import Finding, Preflight
from lic_train.experiment import build
from lic_train.experiment.unused import check_added
from lic_train.utils.faults import describe

Check = Callable[[Preflight], Iterator[Finding]]


def examine(overrides: Sequence[str]) -> list[Finding]:
    """All that is to be said of the run that these overrides make."""
    try:
        cfg, hydra = build.compose(overrides)
        check_added(cfg, overrides)
    except Exception as error:
        return [_broken("config", error)]
    preflight = Preflight(cfg, dict(hydra.runtime.choices), hydra)
    findings = [f for check in _checks("settings") for f in _carefully(check, preflight)]
    cfg.logger = {}  # loggers would leave files behind
    try:
        preflight.experiment = build.build(cfg)
    except Exception as error:
        return [*findings, _broken("config", error)]
    findings += _carefully(start, preflight)
    # `step` last: it moves the weights that the others look at.
    for name in ("images", "files", "step"):
        for check in _checks(name):
            findings += _carefully(check, preflight)
    return findings


def start(p: Preflight) -> Iterator[Finding]:
    """What the run would resume from."""
    trainer = p.experiment.trainer
    last = newest_checkpoint(p.run_dir / "checkpoints" / LAST, p.experiment.module)
    ranks = f"{trainer.world_size} x {trainer.accelerator.name()}"
    batch = f"{trainer.world_size * p.experiment.data.batch_size} samples a step on {ranks}"
    scale = p.experiment.module.lr_scale
    yield Finding("ranks", f"{batch}, learning rates x {scale:g}")
    if last is not None:
        yield Finding("checkpoint", f"resumes from {last}")


def _checks(name: str) -> list[Check]:
    """The public functions of a file, in their order: found, not listed."""
    module = importlib.import_module(f"{doctor.__name__}.{name}")
    functions = inspect.getmembers(module, inspect.isfunction)
    own = [f for n, f in functions if f.__module__ == module.__name__ and not n.startswith("_")]
    return sorted(own, key=lambda f: f.__code__.co_firstlineno)


def _carefully(check: Check, preflight: Preflight) -> list[Finding]:
    findings = []
    try:
        for finding in check(preflight):
            findings.append(finding)
    except Exception as error:
        findings.append(_broken(check.__name__.replace("_", " "), error))
    return findings


def _broken(what: str, error: Exception) -> Finding:
    line = describe(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Finding(what, line, "as it says")
