"""Starting this package in another process that takes no code from the folder it runs in.

``python -m`` puts the working folder first on the path: a ``torch.py`` that lies there would run.
``-P`` leaves it out, and ``PYTHONPATH`` names where this very package was imported from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that this package lies in."""


def python_module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module; use it with :func:`safe_environment`."""
    return [sys.executable, "-P", "-m", name, *arguments]


def safe_environment(
    more: Mapping[str, str] | None = None, folders: Sequence[str] = ()
) -> dict[str, str]:
    """This process's environment, with a path that begins with this package's folder.

    Args:
        more: variables that differ.
        folders: further ones to import from, after the package's.
    """
    environment = {**os.environ, **(more or {})}
    # An empty entry means the working folder.
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([str(ROOT), *filter(None, folders), *given])
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
