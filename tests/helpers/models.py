"""Every model config, as the parameter of a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lic_train.utils.configs import config_dir

MODELS = sorted(path.stem for path in (Path(config_dir()) / "model").glob("*.yaml"))


STARTED = ("joint_prior", "edic", "mean_scale_odd", "dvc", "elic")
"""Whose transforms begin as a wavelet and also as noise ("joint_prior+random"); one by default."""
WITH_GAINS = tuple(
    stem
    for stem in MODELS
    if "rates" in OmegaConf.load(Path(config_dir()) / "model" / f"{stem}.yaml")
)
"""Which may be trained for several rates ("mean_scale+4"); two of them by default."""
CURVES = tuple(f"{stem}+4" for stem in WITH_GAINS)
DEFAULT_CURVES = ("edic+4", "mean_scale+4")
DEFAULT = (*MODELS, f"{STARTED[0]}+random", *DEFAULT_CURVES)
SLOW = (
    *(f"{stem}+random" for stem in STARTED[1:]),
    *(stem for stem in CURVES if stem not in DEFAULT_CURVES),
)
every_model = pytest.mark.parametrize(
    "stem", [*DEFAULT, *(pytest.param(stem, marks=pytest.mark.slow) for stem in SLOW)]
)
