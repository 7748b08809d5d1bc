"""Where weights come from: ``init_from`` of a config, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lic_train.errors import ModelError

KEYS = ("run", "part", "source", "optional")
WHOLE = "all"


class Start(NamedTuple):
    """Weights that one part of a codec starts from."""

    label: str
    """What the setting is called, ``init_from.LABEL``."""
    part: str
    """Path of the part in the codec; "" is the codec itself."""
    source: str
    """Path of the part in the run's codec."""
    run: Path
    """Folder of a finished run."""


def starts(init_from: Mapping[Any, Any]) -> list[Start]:
    """The starts that ``init_from`` asks for, in its order.

    Args:
        init_from: ``{label: {run, part, source, optional}}``. The part is the label where it is not
            given, "all" is the whole codec, and the source is the part.

    Raises:
        ModelError: a required run is missing, or an entry has another form.
    """
    found = []
    for label, entry in init_from.items():
        key = f"init_from.{label}"
        if not isinstance(entry, Mapping):
            part, _, source = str(label).partition(" from ")
            said = f"init_from.LABEL.part={part} init_from.LABEL.source={source} " if source else ""
            name = "init_from.LABEL.run" if source else f"{key}.run"
            raise ModelError(f"{key}={entry} is the old form: say {said}{name}={entry}")
        if unknown := [k for k in entry if k not in KEYS]:
            raise ModelError(f"there is no setting {key}.{unknown[0]}: there are {', '.join(KEYS)}")
        run = entry.get("run")
        if run is None:
            if entry.get("optional"):
                continue
            raise ModelError(
                f"{key}.run is not given: add {key}.run=RUN, the folder of a finished run"
            )
        part = str(entry.get("part") or label)
        source = str(entry.get("source") or part)
        part, source = ("" if name == WHOLE else name for name in (part, source))
        found.append(Start(str(label), part, source, Path(str(run))))
    return found
