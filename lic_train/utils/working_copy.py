"""Which commit the code is of, and whether anything in its working copy was changed since."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHANGED = "changed since"
"""Ends the description of a working copy that is not clean."""


def commits() -> dict[str, str]:
    """The commit of this package and, where it is another working copy, of the current folder.

    Returns:
        ``{"commit": "0123abcd...", "commit of NAME": "4567cdef..., changed since"}``; nothing for
        a package that was installed, or where there is no git.
    """
    found: dict[str, str] = {}
    here = _top(Path.cwd())
    own = _top(PACKAGE)
    if own is not None and _git(own, "ls-files", str(PACKAGE / "__init__.py")):
        found["commit"] = _state(own)
    if here is not None and (here != own or not found):
        found[f"commit of {here.name}"] = _state(here)
    return {name: state for name, state in found.items() if state}


def _top(folder: Path) -> Path | None:
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def _state(top: Path) -> str:
    commit = _git(top, "rev-parse", "HEAD")
    # Of files that git does not know, a run's own folders among them, nothing is said.
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}, {CHANGED}" if commit and changed else commit


def _git(folder: Path, *command: str) -> str:
    """What git prints; nothing where there is no git or it refuses."""
    # A monitor is a program that the repository's own config names.
    line = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *command]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=20, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
