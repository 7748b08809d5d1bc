"""Settings of ``data``: nodes refer to some, the data module takes others, no more are known."""

from __future__ import annotations

import pytest

from lic_train.errors import DataError
from lic_train.experiment.build import build_data


def test_a_setting_that_nothing_takes_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"no setting data\.bach_size for this data.*batch_size"):
        build_data(["samples", "+data.bach_size=3"])


def test_settings_that_nodes_refer_to_are_no_arguments() -> None:
    data = build_data(["samples", "data.crop_size=64"])
    assert data.train_dataloader is not None and not hasattr(data, "crop_size")
