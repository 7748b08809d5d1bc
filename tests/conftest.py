"""Fixtures of all tests: a cache of their own, folders of sets, the trained zoo."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: two workers share the
# cores, and threads that spin while they wait for a core make a training thirty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from helpers.zoo import SCRIPTS, Zoo


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a run keeps for the next one stays out of the user's folders."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["LIC_CACHE"] = str(shared / "cache")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small set of the true layout for each ``conf/data``, by its name."""
    folder = tmp_path_factory.mktemp("sets")
    runpy.run_path(str(SCRIPTS / "fake_datasets.py"))["write"](folder)
    return folder


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    folder.mkdir(exist_ok=True)
    return Zoo(folder)
