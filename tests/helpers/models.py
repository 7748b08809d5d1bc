"""Every model config, as the parameter of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from lic_train.utils.configs import config_dir

MODELS = sorted(path.stem for path in (Path(config_dir()) / "model").glob("*.yaml"))


every_model = pytest.mark.parametrize("stem", MODELS)
