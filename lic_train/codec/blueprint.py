"""What a ``model.yaml`` may ask to be built: classes of this package, by name, with plain values.

A run folder may come from a stranger. Its text is checked before anything that it names is
imported; what is not on the list is built only if the user names it too.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from lic_train.errors import ModelError
from lic_train.utils.moved import moved_target
from lic_train.utils.plain import printable

OURS = re.compile(r"lic_train\.modules\.(codecs|layers)(\.[a-z][a-z0-9_]*)+\.[A-Z][A-Za-z0-9]*")
"""Full names of codecs and layers."""
FOREIGN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""What ``--trust`` takes: ``package.module:Class``."""
LARGEST = 1024
"""Of every whole number among the arguments: widths, depths and counts are below. Two widths of
this size build in seconds and a gigabyte, not in minutes."""
LARGER = {"queries": 1 << 24}
"""Arguments that are no size of the network."""
DEEPEST, MOST = 12, 2000
"""Nested levels and values of a model."""


def trusted_targets(names: Sequence[str]) -> frozenset[str]:
    """The ``_target_``s that the user trusts.

    Args:
        names: as ``--trust`` takes them, ``package.module:Class``.

    Raises:
        ModelError: a name of another form.
    """
    for name in names:
        if not FOREIGN.fullmatch(name):
            raise ModelError(f"--trust {printable(name)}: give package.module:Class")
    return frozenset(name.replace(":", ".") for name in names)


def blueprint(model: Any, trusted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The model of a ``model.yaml``, checked, with the names of today.

    Transforms are built at random whatever the file says of their start: weights follow.

    Args:
        model: plain values, as YAML gives them.
        trusted: see :func:`trusted_targets`.

    Raises:
        ModelError: it names a class that is not allowed, or is not such a model.
    """
    checked = _checked(model, trusted, depth=0, left=[MOST])
    if not isinstance(checked, dict) or "_target_" not in checked:
        raise ModelError("the model names no class: it is not a codec")
    return checked


def _checked(node: Any, trusted: frozenset[str], depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        raise ModelError("the model is nested too deeply or too large: refused")
    if isinstance(node, Mapping):
        given = {str(key): value for key, value in node.items()}
        if "_target_" in given:
            given["_target_"] = moved_target(str(given["_target_"]))
            found = _allowed(given["_target_"], trusted)
            if hasattr(found, "arguments_of_before"):
                given = found.arguments_of_before(given)
            if given.get("start") is not None:
                given["start"] = "random"
        for key in given:
            if key != "_target_" and (key.startswith("_") or not key.isidentifier()):
                raise ModelError(f"the model has an argument {printable(key)!r}: refused")
        return {k: _bounded(k, _checked(v, trusted, depth + 1, left)) for k, v in given.items()}
    if isinstance(node, list):
        return [_bounded("", _checked(value, trusted, depth + 1, left)) for value in node]
    if isinstance(node, str):
        if "${" in node or len(node) > 500:
            raise ModelError(f"the model holds the text {printable(node)!r}: refused")
        return node
    if node is None or isinstance(node, bool | int | float):
        return node
    raise ModelError(f"the model holds a {type(node).__name__}: refused")


def _allowed(target: str, trusted: frozenset[str]) -> Any:
    """The class, or None of one that is trusted. The text comes first: importing runs a module."""
    if target in trusted:
        return None
    if not OURS.fullmatch(target):
        module, _, name = target.rpartition(".")
        raise ModelError(
            f"the model names {printable(target)}, which is none of this package's codecs and "
            f"layers: refused. If you trust that code, say --trust {printable(module)}:"
            f"{printable(name)}"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"the model names {target}, which is not there: another version wrote it")
    if found.__module__ != module:
        raise ModelError(f"the model names {target}, which is {found.__module__}'s: refused")
    return found


def _bounded(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    largest = LARGER.get(key, LARGEST)
    if isinstance(value, int) and abs(value) > largest:
        raise ModelError(f"the model has {key or 'a value'} {value}, more than {largest}: refused")
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelError(f"the model has {key or 'a value'} {value}: refused")
    return value


def foreign_targets(model: Any) -> Iterator[str]:
    """``package.module:Class`` of every class of a config that is none of ours."""
    if isinstance(model, Mapping):
        target = str(model.get("_target_", ""))
        if target and not OURS.fullmatch(target):
            module, _, name = target.rpartition(".")
            yield f"{module}:{name}"
        for value in model.values():
            yield from foreign_targets(value)
    elif isinstance(model, list):
        for value in model:
            yield from foreign_targets(value)
