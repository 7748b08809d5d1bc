"""Types are those of the constructors, ranges those of the table; what is right is let through."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from lic_train.errors import SettingError
from lic_train.experiment.settings import check_settings, fits, in_words


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("devices", value) for value in (1, -1, "auto", "0,1", [0], [0, 1])),
        *(("val_check_interval", value) for value in (1, 0.25, None)),
        *(("limit_val_batches", value) for value in (0, 1.0, None)),
        *(("max_time", value) for value in ("00:01:00:00", {"hours": 1}, None)),
        *(("precision", value) for value in ("auto", "32-true", 32)),
        ("strategy", {"_target_": "pytorch_lightning.strategies.DDPStrategy"}),
        ("num_sanity_val_steps", -1),
        ("gradient_clip_val", 0.5),
    ],
    ids=str,
)
def test_what_lightning_takes_is_let_through(key: str, value: Any) -> None:
    trainer = {"_target_": "pytorch_lightning.Trainer", key: value}
    check_settings(OmegaConf.create({"trainer": trainer}))


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        ("1", float, False),
        (None, int | None, True),
        ("skip", Literal["skip", "fail"], True),
        ("stop", Literal["skip", "fail"], False),
        ([1, 2], tuple[int, int], True),
        ([1, 2, 3], tuple[int, int], False),
        ([1, 2, 3], tuple[int, ...], True),
        ([1, "a"], list[int], False),
        ({"_target_": "x"}, float, False),
        ({"_target_": "x"}, Any, True),
        (3, object, True),
    ],
    ids=str,
)
def test_types(value: Any, kind: Any, right: bool) -> None:
    assert fits(value, kind) is right
    assert in_words(kind)


def test_a_setting_that_refers_to_another_is_refused_as_that_one() -> None:
    cfg = OmegaConf.create({"data": {"steps": "${trainer.max_steps}"}, "trainer": {"max_steps": 0}})
    with pytest.raises(SettingError, match=r"trainer\.max_steps is 0: give 1 or more"):
        check_settings(cfg)
