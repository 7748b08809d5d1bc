"""The identity of a run: a hash of what its result depends on, settings and data, and no more.

Where a run lies, who logs it and which device computes it are left out, so that a sweep that is
moved, watched or continued elsewhere is still the same sweep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lic_train.runs.settings import matters
from lic_train.utils.configs import flat

NAMES = 1000


def settings(config: Any) -> dict[str, Any]:
    """What matters of a resolved config, flat: ``{"trainer.max_steps": 1200, ...}``."""
    return {key: value for key, value in flat(config) if matters(key)}


def digest(values: Any) -> str:
    """Twelve hexadecimal digits for anything that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key old -> new`` of every setting that is not the same."""
    nothing = "nothing"
    return [
        f"{key} {old.get(key, nothing)} -> {new.get(key, nothing)}"
        for key in sorted({*old, *new})
        if old.get(key, nothing) != new.get(key, nothing)
    ]


def of_source(source: Any) -> str:
    """How many images a source has, and a hash of which.

    A prepared set is known by the hashes in its manifest. Of files, names and sizes count, not
    their folder; pixels are not read. Of anything else, the first thousand names.
    """
    if isinstance(manifest := getattr(source, "manifest", None), Mapping):
        return f"{len(source)} images, {digest(manifest['shards'])}"
    if hasattr(source, "files"):
        files = [(name, Path(path).stat().st_size) for name, path in source.files]
        return f"{len(files)} images, {digest(files)}"
    if hasattr(source, "source"):  # its own settings are in the config
        return of_source(source.source)
    if not hasattr(source, "__len__"):
        return f"a {type(source).__name__}"
    names = [source.name(index) for index in range(min(len(source), NAMES))]
    return f"{len(source)} images, {digest(names)}"


def of_weights(run_dir: Path) -> str:
    """Hash of a finished run's exported tensors, whatever order or remarks the file has.

    Args:
        run_dir: of the run.

    Returns:
        Twelve hexadecimal digits; empty where there are no weights (the run says so).
    """
    path = run_dir / "model.safetensors"
    if not path.is_file():
        return ""
    found = hashlib.sha256()
    with path.open("rb") as file:  # read here: torch would take seconds to import
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return ""
        try:
            tensors: dict[str, Any] = json.loads(file.read(length))
            tensors.pop("__metadata__", None)
            for name, about in sorted(tensors.items()):
                start, end = about["data_offsets"]
                file.seek(8 + length + start)
                shape = [name, about["dtype"], about["shape"]]
                found.update(json.dumps(shape).encode() + file.read(end - start))
        except (ValueError, TypeError, KeyError, AttributeError):
            return ""  # damaged: whoever loads it says so
    return found.hexdigest()[:12]
