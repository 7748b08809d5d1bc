"""What a run is called and tagged, out of its config and its command."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig

from lic_train.runs.names import differing, title
from lic_train.utils.working_copy import commits

TAG = 64
"""Characters of a tag: W&B takes no more."""


def overrides() -> list[str]:
    """What the command sets."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def name_run(cfg: DictConfig, run_dir: Path) -> list[str]:
    """Fill in ``title`` and ``tags``, as far as the user left that to us.

    Args:
        cfg: the run's config.
        run_dir: its folder.

    Returns:
        The settings of the command that a name tells.
    """
    differs = differing(overrides())
    cfg.title = cfg.title or title(str(cfg.name), _lmbda(cfg), differs)
    sweep = run_dir.parent.name if (run_dir.parent / "sweep.json").is_file() else ""
    commit = next(iter(commits().values()), "")[:7]
    own = [str(cfg.name), dataset_name(cfg), sweep, commit]
    tags = dict.fromkeys([*map(str, cfg.tags or []), *filter(None, own)])
    cfg.tags = [tag[:TAG] for tag in tags]
    return differs


def dataset_name(cfg: DictConfig) -> str:
    """What the rows call the evaluation images: the config's choice, or their folder's name."""
    root = cfg.data.get("eval_root") or cfg.data.get("root")
    folder = Path(str(root)).resolve().name if root else "samples"
    return str(cfg.data.get("name") or folder)


def _lmbda(cfg: DictConfig) -> float | None:
    """The trade-off, if the codec heeds it."""
    try:
        own = bool(getattr(get_class(str(cfg.model._target_)), "own_lmbda", False))
        return None if own else float(cfg.lmbda)
    except Exception:  # whoever builds it says better what is wrong
        return None
