"""Every setting has a type and a range; what has neither is refused before anything is built.

Types are those of the constructors that the config names, read from their annotations, so that a
new argument needs no entry here. Ranges of numbers are a table.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lic_train.errors import SettingError
from lic_train.utils.configs import flat


class Range(NamedTuple):
    """Numbers from ``least`` to ``most``; the ends belong to it unless they are ``open``."""

    least: float
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is in it."""
        if self.open:
            return self.least < value < self.most
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"a number above {self.least}" if self.open else f"{self.least} or more"
        ends = "between" if self.open else "from"
        return f"a number {ends} {self.least} {'and' if self.open else 'to'} {self.most}"


POSITIVE, SHARE = Range(0, open=True), Range(0, 1)
RANGES: dict[str, Range] = {
    "seed": Range(0, 2**32 - 1),
    "lmbda": POSITIVE,
    "look_every": Range(1),
    **{f"data.{key}": Range(1) for key in ("batch_size", "crop_size", "eval_crop", "steps")},
    **{
        f"data*.{key}": Range(1)
        for key in ("longest_side", "limit", "frames", "stride", "late_scale")
    },
    **{f"data*.{key}": Range(0) for key in ("num_workers", "cache_mb", "pan", "stills", "buffer")},
    "data.late_share": SHARE,
    "data.crop.min_scale": Range(1e-3, 1),
    "trainer.max_steps": Range(1),
    "trainer.max_epochs": Range(-1),
    "trainer.val_check_interval": POSITIVE,
    "trainer.num_sanity_val_steps": Range(-1),
    "trainer.limit_*": Range(0),
    "trainer.gradient_clip_val": Range(0),
    **{
        f"trainer.{key}": Range(1)
        for key in (
            *("accumulate_grad_batches", "log_every_n_steps", "num_nodes"),
            *("check_val_every_n_epoch", "min_steps", "min_epochs"),
        )
    },
    **{f"optimizer.*.{key}": Range(0, 1e6) for key in ("lr", "adam_lr", "weight_decay", "eps")},
    "optimizer.*.momentum": SHARE,
    "optimizer.*.ns_steps": Range(1, 100),
    "scheduler.warmup": Range(0),
    "scheduler.steps": Range(1),
    "scheduler.gamma": POSITIVE,
    "scheduler.factor": SHARE,
    "module.*clip_norm": POSITIVE,
    "module.seed": Range(0, 2**32 - 1),
    "evaluation.save_images": Range(0),
    "callbacks.*.every_n_*": Range(1),
    "callbacks.*.decay": SHARE,
    "model.*start_lmbda": POSITIVE,
    "model*.[NM]": Range(1, 4096),
    "model*": Range(-(2**20), 2**20),
}
"""By their names; the first that fits decides. Numbers of other settings must be finite."""
PLAIN: dict[str, Any] = {
    "seed": int,
    "lmbda": float,
    "look_every": int,
    "trainer.precision": int | str,
}
"""Types of settings that no constructor has, or another one than ours: "auto" is our precision."""


def check_settings(cfg: DictConfig, at: str = "") -> None:
    """Look at every setting of a run; those that refer to others after those they refer to.

    Args:
        cfg: the composed config, or a part of it.
        at: the key of that part.

    Raises:
        SettingError: the first setting of a wrong type or out of its range, by its key.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    raw = dict(flat(OmegaConf.to_container(cfg, resolve=False), at))
    refer = {key for key, value in raw.items() if isinstance(value, str) and "${" in value}
    leaves = sorted(flat(plain, at), key=lambda leaf: leaf[0] in refer)
    for key, value in leaves:
        _check_type(key, value, PLAIN.get(key, Any))
    for path, node in _nodes(plain, at):
        for name, kind in _arguments(str(node["_target_"])).items():
            key = f"{path}.{name}"
            if name in node and key not in PLAIN and not (node[name] is None and key in refer):
                _check_type(key, node[name], kind)
    for key, value in leaves:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_range(key, number)


def _check_type(key: str, value: Any, kind: Any) -> None:
    if not fits(value, kind):
        raise SettingError(f"{key} is {value!r}: give {in_words(kind)}")


def _check_range(key: str, value: float) -> None:
    if not math.isfinite(value):
        raise SettingError(f"{key} is {value}: give a finite number")
    for name, allowed in RANGES.items():
        if fnmatchcase(key, name):
            if not allowed.holds(value):
                raise SettingError(f"{key} is {value}: give {allowed}")
            return


def _nodes(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node that names what it builds, with its key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}" if path else str(key))


def _arguments(target: str) -> dict[str, Any]:
    """Annotated arguments of a class or function; none where it cannot be imported or read, which
    whoever builds it says better."""
    try:
        made = get_object(target)
        called: Callable[..., Any] = made.__init__ if inspect.isclass(made) else made
        return get_type_hints(called)
    except Exception:
        return {}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of a config may be given for an argument annotated so.

    Kinds that a config cannot hold, e.g. modules, fit whatever is there: they are built.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if isinstance(value, Mapping) and "_target_" in value:
        return kind not in (bool, int, float, str)
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (str, Path):
        return isinstance(value, str)
    if origin is tuple and isinstance(value, list) and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (list, tuple, Sequence) or kind in (list, tuple):
        return isinstance(value, list) and all(fits(v, inner[0]) for v in value if inner)
    return True


def in_words(kind: Any) -> str:
    """What to give for an argument annotated so."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    words |= {type(None): "null", Path: "a path"}
    if kind in words:
        return words[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        said = [in_words(one) for one in inner]
        return " or ".join(dict.fromkeys(word for word in said if word))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (list, tuple, Sequence) or kind in (list, tuple):
        return f"a list of {len(inner)}" if origin is tuple and Ellipsis not in inner else "a list"
    return getattr(kind, "__name__", str(kind))
