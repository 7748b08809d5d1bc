"""The last batches round in another way, whoever resumes when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_training import crops, module, trainer
from helpers.zoo import Zoo
from pytorch_lightning.callbacks import Callback

from lic_train.callbacks.late_quantise import LateQuantise


class Seen(Callback):
    """What the codec does in each batch."""

    def __init__(self) -> None:
        self.quantise: list[str] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.quantise.append(module.codec.quantise)


def test_the_last_share_of_the_batches_is_other(zoo: Zoo, tmp_path: Path) -> None:
    seen = Seen()
    whole = trainer(tmp_path, 4, LateQuantise("mixed", 0.5), seen)
    whole.fit(module(zoo.build("mean_scale")), crops())
    assert seen.quantise == ["noise", "noise", "mixed", "mixed"]


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        LateQuantise(share=share)
