"""Where conf/ lies: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MEANT = {"lambda": "lmbda", "lr": "optimizer.net.lr", "steps": "trainer.max_steps"}
"""What else people call a setting."""


def config_dir() -> str:
    """Absolute path of the config folder.

    The checkout's own comes first: an editable install may leave a stale copy in the package.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package.parent / "conf", package / "conf"):
        if (candidate / "train.yaml").is_file():
            return str(candidate)
    raise FileNotFoundError("conf/train.yaml is missing: install lic_train again")


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by their dotted names; a list is a leaf, and so is what is empty."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, node


def typed(key: str, value: object) -> str:
    """``key=value`` as a shell and Hydra's grammar take it: quoted where it must be."""
    text = str(value)
    if re.fullmatch(r"[A-Za-z0-9_./+-]+", text):
        return f"{key}={text}"
    # Within quotes a backslash is itself, except before a quote.
    inner = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + "\\'" * bool(m[2]), text)
    whole = f"{key}='{inner}'"
    return shlex.quote(whole) if re.search(r'[$`"\\!]', whole) else f'"{whole}"'
