"""The bar of a run that resumes shows how far all of it is, and its true rate."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_training import crops, module, trainer
from helpers.zoo import Zoo

from lic_train.callbacks.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_resumed_bar_begins_where_the_run_does(zoo: Zoo, tmp_path: Path) -> None:
    first = trainer(tmp_path, 3, Progress(), enable_progress_bar=True)
    first.fit(module(zoo.build("mean_scale")), crops())
    first.save_checkpoint(tmp_path / "last.ckpt")
    bar = Progress()
    second = trainer(tmp_path, 5, bar, enable_progress_bar=True)
    second.fit(module(zoo.build("mean_scale")), crops(), ckpt_path=str(tmp_path / "last.ckpt"))
    shown = bar.train_progress_bar
    assert (shown.initial, shown.n, shown.total) == (3, 5, 5)
