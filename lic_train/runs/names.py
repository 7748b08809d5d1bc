"""What a run is called, everywhere by one rule: its model, its lambda, then what differs.

``edic λ=0.0067 attention_on=off``: "what differs" are settings, of a single run those that its
command gives, of several that are shown together those that tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from lic_train.runs.settings import matters

NAMED = 3
"""Settings in a name; of more, the first and how many there are."""
CHOICES = ("experiment", "model")
"""Groups whose choice is the name itself, unless something else is."""
UNTOLD = (
    *("name", "lmbda", "loss.lmbda", "chain", "hydra", "hydra/*", "logger/*", "init_from"),
    *("model._target_", "eval_data", "data.eval", "data.eval_*", "data.name", "evaluation"),
    *("trainer.val_check_interval", "trainer.max_time", "trainer.profiler"),
)
"""Settings that a name tells otherwise, or that say nothing of what was trained."""
WORDS = {"true": "on", "false": "off", "null": "none", "none": "none", "": "none"}
TARGET, NAME = "model._target_=", "name="


def title(
    name: str, lmbda: float | None = None, differs: Sequence[str] = (), most: int | None = NAMED
) -> str:
    """The name of a run.

    Args:
        name: of its model or experiment.
        lmbda: its trade-off; None where the codec does not heed it.
        differs: settings, ``"model.N=64"``.
        most: how many of them to name; None: all.
    """
    trade_off = [] if lmbda is None else [f"λ={lmbda:g}"]
    return " ".join([name, *trade_off, *_told(name, differs, most)])


def curve(name: str, differs: Sequence[str] = (), most: int | None = NAMED) -> str:
    """The name of runs that differ in their lambda alone."""
    return title(name, None, differs, most)


def shown(setting: str) -> str:
    """``model.attention=false`` as ``attention=off``: the last part of the key, words for switches
    and for nothing."""
    key, _, value = setting.lstrip("+~").partition("=")
    value = value.strip("'\" ")
    short = key.replace("/", "_").rpartition(".")[2]
    return f"{short}={WORDS.get(value.lower(), value).replace('/', '_')}"


def differing(overrides: Sequence[str]) -> list[str]:
    """Of a command's overrides those that its name tells; of two for one key the last."""
    last: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        last.pop(key, None)
        if matters(key) and not any(
            fnmatchcase(key, f"{name}{end}") for name in UNTOLD for end in ("", ".*")
        ):
            last[key] = f"{key}={value}"
    return list(last.values())


def with_target(overrides: Sequence[str]) -> list[str]:
    """The overrides and, where one puts another class in the model's place, its name as the name
    of the run, unless that is given."""
    targets = [o.lstrip("+").removeprefix(TARGET) for o in overrides if _sets(o, TARGET)]
    if not targets or any(_sets(o, NAME) for o in overrides):
        return list(overrides)
    classes = [target.strip("'\" ").rpartition(".")[2] for target in targets[-1].split(",")]
    if len(classes) > 1 or not classes[0].isidentifier():  # of several each point's own is given
        return list(overrides)
    return [*overrides, f"{NAME}{classes[0]}"]


def joined(names: Sequence[str]) -> str:
    """One name for runs of several models."""
    different = list(dict.fromkeys(names))
    return "+".join(different) if len(different) <= NAMED else f"{len(different)}_models"


def _sets(override: str, start: str) -> bool:
    return override.lstrip("+").startswith(start)


def _told(name: str, differs: Sequence[str], most: int | None) -> list[str]:
    """What differs in words, but for a choice that is the name already."""
    itself = {f"{choice}={name}" for choice in CHOICES}
    words = list(dict.fromkeys(shown(setting) for setting in differs))
    told = [word for word in words if word not in itself]
    more = 0 if most is None else max(0, len(told) - most)
    return [*told[:most], *([f"+{more}"] if more else [])]
