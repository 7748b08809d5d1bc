"""A fault of the input becomes one line on stderr and exit code 2; a bug keeps its trace."""

from __future__ import annotations

import errno
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lic_train.errors import LicError
from lic_train.utils.configs import MEANT, config_dir, flat, typed
from lic_train.utils.plain import LINE, printable

REFUSALS = ("ValueError", "TypeError", "MisconfigurationException")
"""What constructors raise for arguments they cannot take; by name, as the last is Lightning's and
importing it takes seconds."""

FEW = 8
"""Choices of which none needs to be pointed out."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def show_any_name() -> None:
    """Let stdout print names of files that are no UTF-8, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def one_line(program: str, traces: bool = False) -> Iterator[None]:
    """Print what the user did wrong as ``program: error: ...`` and exit with 2.

    Args:
        program: whose line it is.
        traces: let everything through instead, for whoever asked Hydra for full errors.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: stopped by the keyboard", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = describe(error)
        if traces or line is None:
            raise
        print(f"{program}: error: {printable(line, LINE)}", file=sys.stderr)
        sys.exit(2)


def describe(error: BaseException) -> str | None:
    """The one line for a fault of the input; None where the program is to blame."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps what a constructor raised
        if isinstance(cause, LicError):
            return _own_words(str(cause))
        if type(cause).__module__.partition(".")[0] == "wandb":
            return _wandb_line(str(cause))
        if isinstance(cause, OSError) and cause.errno in FULL:  # that of a write names no file
            where = f"{cause.filename}: " if cause.filename else ""
            return f"{where}{cause.strerror}: make room and give the same command again"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OverrideParseException):
        return _grammar_line(error)
    if isinstance(error, InstantiationException):
        return _constructor_line(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _hydra_line(str(error))
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, of a setting
        return _own_words(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def _wandb_line(text: str) -> str:
    """What W&B refuses, and the two ways on."""
    first = _own_words(text.strip().partition("\n\n")[0]) or "refused"
    way = " (run `wandb login`, or give logger.wandb.offline=true)" * ("API key" in first)
    return f"W&B: {first}{way}"


def _grammar_line(error: OverrideParseException) -> str:
    """An argument that Hydra's grammar cannot take, and how it is typed."""
    key, equals, value = error.override.partition("=")
    if not equals or not re.fullmatch(r"[+~]{0,2}[A-Za-z_][\w./@:-]*", key):
        return f"{error.override!r} is no setting; give KEY=VALUE"
    return f"{error.override!r} has to be quoted: {typed(key, value)}"


def _own_words(text: str) -> str:
    """The message on one line; of an error out of a loader's worker, what follows its trace."""
    if "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _constructor_line(error: InstantiationException) -> str | None:
    """``key: what its constructor refused``; None where the constructor itself is broken."""
    cause, text = error.__cause__, str(error)
    if "Error in call to target" not in text:
        return _hydra_line(text)
    if type(cause).__name__ not in REFUSALS:
        return None
    key = re.search(r"full_key: (\S+)", text)
    return f"{key[1] if key else 'the config'}: {_own_words(str(cause))}"


def _hydra_line(text: str) -> str:
    """Hydra's page in one line, with the available choices where it lists them."""
    if match := re.search(r"Could not find '([^/']+)/([^']+)'", text):
        choices = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)+)", text)
        known = choices.group(1).split() if choices else ["none"]
        near = get_close_matches(match[2], known, 2) if len(known) > FEW else []
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"there is no {match[1]} called {match[2]!r}: choose from {', '.join(known)}{hint}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return (
            f"there is no key {match[1]!r} in the config{_did_you_mean(match[1])}: "
            "python -m lic_train --cfg job shows all keys"
        )
    return " ".join(text.split())


def _did_you_mean(key: str) -> str:
    """The keys of the default config that are nearest to one that is not there."""
    if key in MEANT:
        return f" (did you mean {MEANT[key]}?)"
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir(), version_base="1.3"):
            plain = OmegaConf.to_container(compose("train", ["++run_dir=."]), resolve=False)
    except Exception:  # a hint is worth no second fault
        return ""
    known = {part for leaf, _ in flat(plain) for part in _heads(leaf)}
    near = get_close_matches(key, sorted(known), 2, cutoff=0.75)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _heads(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
