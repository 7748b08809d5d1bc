"""Where conf/ lies: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path


def config_dir() -> str:
    """Absolute path of the config folder.

    The checkout's own comes first: an editable install may leave a stale copy in the package.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package.parent / "conf", package / "conf"):
        if (candidate / "train.yaml").is_file():
            return str(candidate)
    raise FileNotFoundError("conf/train.yaml is missing: install lic_train again")
