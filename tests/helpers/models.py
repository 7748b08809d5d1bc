"""Every model config, as the parameter of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from lic_train.utils.configs import config_dir

MODELS = sorted(path.stem for path in (Path(config_dir()) / "model").glob("*.yaml"))


STARTED = ("joint_prior", "edic", "mean_scale_odd", "dvc")
"""Whose transforms also begin as a wavelet ("joint_prior+wavelet"); one of them by default."""
DEFAULT = (*MODELS, f"{STARTED[0]}+wavelet")
SLOW = tuple(f"{stem}+wavelet" for stem in STARTED[1:])
every_model = pytest.mark.parametrize(
    "stem", [*DEFAULT, *(pytest.param(stem, marks=pytest.mark.slow) for stem in SLOW)]
)
