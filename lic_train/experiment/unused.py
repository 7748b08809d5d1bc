"""A key that a command adds and nothing uses is refused: most are a known one mistyped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lic_train.errors import SettingError
from lic_train.utils.configs import MEANT, config_dir, flat

OPEN = ("sweep", "hydra", "init_from", "chain")
"""Nodes whose keys are looked at elsewhere."""


def check_added(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Look at every ``+KEY=VALUE`` of a command.

    A key is used if what its node builds takes it (its constructor judges that), if the config has
    such a key without it, or if another setting refers to it.

    Args:
        cfg: the composed config.
        overrides: the command's.

    Raises:
        SettingError: the first that nothing uses.
    """
    added = [o.lstrip("+").partition("=")[0] for o in overrides if o.startswith("+") and "=" in o]
    if not added:
        return
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    base: Any = OmegaConf.to_container(
        OmegaConf.load(Path(config_dir(), "train.yaml")), resolve=False
    )
    text = " ".join(str(value) for _, value in flat(raw))
    for key in added:
        top = key.partition(".")[0]
        refers = re.search(r"\$\{" + re.escape(key) + r"[.}\[]", text)
        if "/" in key or top in OPEN or _has(base, key) or _is_group(key) or refers:
            continue
        if not _is_built(raw, key):
            raise SettingError(f"nothing uses +{key}{_hint(key, (k for k, _ in flat(raw)), key)}")


def _is_group(key: str) -> bool:
    return Path(config_dir(), key.partition("@")[0]).is_dir()


def _has(node: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _is_built(node: Any, key: str) -> bool:
    """Whether a node on the way to the key names what it builds."""
    for part in key.split("."):
        if not isinstance(node, Mapping):
            return False
        if "_target_" in node:
            return True
        node = node.get(part)
    return isinstance(node, Mapping) and "_target_" in node


def _hint(key: str, known: Iterable[str], itself: str) -> str:
    others = [k for k in known if k != itself and not k.startswith(f"{itself}.")]
    near = [MEANT[key]] if key in MEANT else get_close_matches(key, others, 2)
    return f": did you mean {' or '.join(near)}?" if near else ": leave it out"
