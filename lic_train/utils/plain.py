"""Text of strangers: YAML and JSON within bounds, and names that are fit to print."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 256 << 10
MOST_JSON, MOST_TABLE = 16 << 20, 256 << 20
DEEPEST, MOST_NODES, LONGEST = 40, 5_000, 10_000
"""Levels, values and characters of one value: reading takes a second at most."""


LINE = 2000
"""Characters of a message: names out of a stranger's file may be megabytes."""


class NotPlainError(ValueError):
    """Text that is beyond the bounds, or no YAML."""


def read_yaml(path: Path) -> Any:
    """Plain values out of a YAML file.

    Aliases are refused: a few lines of them stand for more values than memory holds.

    Raises:
        OSError: it cannot be read.
        NotPlainError: it is too large, too deep, holds aliases or tags, or is not YAML.
    """
    check_plain_file(path, MOST_BYTES)
    try:
        text = path.read_bytes().decode()
        _within_bounds(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotPlainError(f"it is not YAML ({type(error).__name__})") from None
    except UnicodeDecodeError:
        raise NotPlainError("it is not text") from None
    except (RecursionError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, NotPlainError):
            raise
        raise NotPlainError(f"it is not plain YAML ({type(error).__name__})") from None


def read_json(path: Path) -> Any:
    """Plain values out of a JSON file.

    Raises:
        OSError: it cannot be read.
        NotPlainError: it is too large or too deep, or is not JSON.
    """
    check_plain_file(path, MOST_JSON)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotPlainError(f"it is not JSON ({type(error).__name__})") from None


def check_plain_file(path: Path, most: int) -> None:
    """Refuse what would block or never end when it is read.

    Raises:
        OSError: there is no such file.
        NotPlainError: it is a pipe, a device or a folder, or has more than ``most`` bytes.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise NotPlainError("it is no plain file")
    if about.st_size > most:
        raise NotPlainError(f"it is larger than {most >> 10} KB")


def _within_bounds(text: str) -> None:
    depth = nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise NotPlainError("it holds aliases")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += 1
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            raise NotPlainError("it holds a value that is too long")
        if depth > DEEPEST or nodes > MOST_NODES:
            raise NotPlainError("it is nested too deeply or holds too many values")


def printable(text: str, longest: int = 120) -> str:
    """The text on one line without control characters, which a terminal would obey."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= longest else plain[:longest] + "..."
