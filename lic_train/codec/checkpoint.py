"""Weights out of a checkpoint that another program wrote, under the names a network has for them.

Checkpoints of the field are pickles of many shapes: a state dict, or one among an optimizer's and
others; behind the prefixes of wrappers; with the entropy models' keys of older versions. They are
read with ``weights_only=True``, so that nothing in them is executed.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lic_train.codec.contract import TABLES
from lic_train.errors import ModelError
from lic_train.utils.plain import printable

TRAINED = ("state_dict", "model_state_dict", "network", "model", "net")
"""Where the weights of a checkpoint are, unless the user says."""
NAMED = 3
"""Keys that a message names."""
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
OLD = re.compile(r"\._(?:matri(?:x|ces\.)|bias(?:es\.)?|factor(?:s\.)?)(?P<number>\d+)$")
NOW = {"m": "matrices", "b": "biases", "f": "factors"}

Tensors = dict[str, Tensor]


def read_checkpoint(path: Path, key: str | None = None) -> tuple[Tensors, str, list[str]]:
    """The weights of a checkpoint.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote.
        key: which of several sets, e.g. that of an EMA; None takes the trained ones.

    Returns:
        The tensors, the key they were under ("" if they are all there is), and the keys of other
        sets that there are.

    Raises:
        ModelError: the file is missing, damaged or no checkpoint, would execute code, or has no
            such set.
    """
    loaded = _read(path)
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path} holds a {type(loaded).__name__}, not weights by their names")
    sets = {str(name): tensors for name, value in loaded.items() if (tensors := _tensors(value))}
    bare = _tensors(loaded)
    if key is not None:
        if key not in sets:
            there = ", ".join(map(printable, sets)) or "none"
            raise ModelError(f"{path} holds no weights under {printable(key)!r}: there are {there}")
        chosen = key
    elif bare:
        return bare, "", []
    elif len(sets) == 1:
        chosen = next(iter(sets))
    elif not (found := [name for name in TRAINED if name in sets]):
        said = ", ".join(map(printable, sets or loaded)) or "nothing"
        raise ModelError(f"{path} holds no weights that are known as such: it holds {said[:300]}")
    else:
        chosen = found[0]
    return sets[chosen], chosen, [name for name in sets if name != chosen]


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing") from None
    except pickle.UnpicklingError as error:
        if found := GLOBAL.search(str(error)):
            raise ModelError(
                f"{path} is a pickle that would execute code ({printable(found[1])}): refused; ask "
                "its author for the state dict alone"
            ) from None
        raise ModelError(f"{path} is no checkpoint, or would execute code: refused") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        said = printable(" ".join(str(error).split()))[:200]
        raise ModelError(f"{path} is no checkpoint, or is damaged ({said})") from None
    except Exception as error:  # a reader of pickles meets every kind in hostile ones
        raise ModelError(f"{path} is no checkpoint ({type(error).__name__})") from None


def _tensors(value: Any) -> Tensors:
    """A mapping of names to tensors; empty if it is anything else. Numbers beside them are left."""
    if not isinstance(value, Mapping):
        return {}
    tensors = {str(k): v.detach() for k, v in value.items() if isinstance(v, Tensor)}
    if not any(t.ndim > 1 for t in tensors.values()):
        return {}
    return tensors if all(isinstance(v, Tensor | int | float) for v in value.values()) else {}


def fitted(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> Tensors:
    """The weights of a network under its own names; coder tables stay behind.

    Args:
        tensors: of a checkpoint.
        wanted: the network's state dict.
        what: the network, for the message.

    Raises:
        ModelError: keys or shapes differ (the first are named), or a number is not finite.
    """
    names = _weights(wanted)
    found = named_like(tensors, names)
    differ = [
        f"{printable(key)} is {_shape(found, key)} instead of {_shape(wanted, key)}"
        for key in (*names, *(key for key in found if key not in names))
        if key not in found or key not in wanted or found[key].shape != wanted[key].shape
    ]
    if differ:
        more = f" and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
        raise ModelError(
            f"the checkpoint is not of {what}, {len(differ)} keys differ: "
            f"{', '.join(differ[:NAMED])}{more}"
        )
    weights = {key: found[key].to(wanted[key].dtype) for key in names}
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{printable(key)} of the checkpoint holds numbers that are not finite"
            )
    return weights


def named_like(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """Tensors without tables and wrappers' prefixes, under today's names where ``names`` has
    these."""
    known = set(names)
    kept = {key: value for key, value in _weights(tensors).items() if key != "n_averaged"}
    while kept and not known & {*map(_renamed, kept), *kept}:
        first = {key.partition(".")[0] for key in kept}
        if len(first) > 1 or not all("." in key for key in kept):
            break
        kept = {key.partition(".")[2]: value for key, value in kept.items()}
    return {
        renamed if (renamed := _renamed(key)) in known else key: value
        for key, value in kept.items()
    }


def _renamed(key: str) -> str:
    """A key of older versions of CompressAI as it is today."""
    key = key.replace(".downsample.", ".skip.")
    if old := OLD.search(key):
        return f"{key[: old.start()]}.{NOW[key[old.start() + 2]]}.{old['number']}"
    return key


def _weights(tensors: Mapping[str, Tensor]) -> Tensors:
    return {k: v for k, v in tensors.items() if k.rpartition(".")[2] not in TABLES}


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    return "x".join(map(str, tensors[key].shape)) or "a number" if key in tensors else "missing"
