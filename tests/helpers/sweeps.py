"""Overrides of small sweeps."""

from __future__ import annotations

from helpers.zoo import SHRUNK_EDIC

TINY = [
    *("experiment=edic_gmm", "debug=fast", "data.crop_size=64", "data.eval_crop=64"),
    *("logger=csv", "callbacks.checkpoint.every_n_steps=3", *SHRUNK_EDIC),
]


LONGER = [*TINY, "trainer.max_steps=30", "trainer.val_check_interval=10", "lmbda=0.01,0.02,0.03"]
