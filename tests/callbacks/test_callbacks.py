"""Looks at a run in training: they find what its files say, and leave it exactly as it was."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.zoo import Zoo
from PIL import Image
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from torch.optim import Adam

from lic_train.callbacks.latents import LatentFigures, inspect
from lic_train.callbacks.look import Findings, Look
from lic_train.callbacks.rd_curve import RDCurve
from lic_train.callbacks.reconstructions import Reconstructions
from lic_train.codec import Codec
from lic_train.codec.signal import Signal
from lic_train.data.datamodule import ImageDataModule
from lic_train.data.sources import Samples
from lic_train.data.transforms import RandomResizedCrop
from lic_train.errors import BitstreamError, DataError
from lic_train.evaluation.evaluate import Evaluator
from lic_train.modules.codec_module import CodecModule
from lic_train.rd.points import read_csv
from lic_train.training.loss import RateDistortionLoss

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 4


def train(codec: Codec, *callbacks: Callback) -> tuple[pl.Trainer, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    photos = Samples("eval", limit=2, longest_side=64)
    crop = RandomResizedCrop(64)
    data = ImageDataModule(Samples("train", limit=2), photos, crop, batch_size=2, eval_crop=64)
    net, aux = (partial(Adam, lr=lr) for lr in (1e-3, 1e-2))
    trainer = pl.Trainer(
        max_steps=STEPS,
        limit_val_batches=0,
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        **dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        ),
    )
    module = CodecModule(codec, RateDistortionLoss(0.01), net=net, aux=aux, seed=3)
    trainer.fit(module, datamodule=data)
    return trainer, module.state_dict()


class Seen(Look):
    """Keeps the weights it is shown."""

    def __init__(
        self, folder: Path, every_n_steps: int = 1, wait: float = 0.0, draws: bool = True
    ) -> None:
        super().__init__(folder, every_n_steps, images=1)
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.wait, self.draws = wait, draws

    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        assert len(signals) == 1 and not codec.training
        if self.draws:  # a codec may draw where nobody thinks of it
            torch.rand(3), np.random.rand(3)
        time.sleep(self.wait)
        self.weights[step] = codec.state_dict()
        return Findings()


def test_looks_change_nothing(zoo: Zoo, tmp_path: Path) -> None:
    _, alone = train(zoo.build("edic"))
    generator = torch.get_rng_state()
    looks = (
        RDCurve(tmp_path, 2, images=2, evaluator=Evaluator(), name="mine"),
        Reconstructions(tmp_path, 2, images=2),
        LatentFigures(tmp_path, 4, images=1),
        Seen(tmp_path),
    )
    _, watched = train(zoo.build("edic"), *looks)
    assert torch.equal(generator, torch.get_rng_state())
    assert alone.keys() == watched.keys()  # no tables
    assert [name for name in alone if not torch.equal(alone[name], watched[name])] == []
    names = {path.name for path in tmp_path.iterdir()}
    steps = ("00000002", "00000004")
    assert names == {
        *(f"rd_{s}.{kind}" for s in steps for kind in ("csv", "png")),
        *(f"reconstructions_{s}.png" for s in steps),
        "latents_00000004.png",
    }
    for path in tmp_path.glob("*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 10
    rows = read_csv(tmp_path / "rd_00000004.csv")
    own = [row for row in rows if row.codec == "mine"]
    assert len(own) == 2 and {row.codec for row in rows} == {"mine", "jpeg"}
    assert all(math.isfinite(row.psnr) and row.bytes > 0 for row in own)


def test_averaged_weights_are_looked_at(zoo: Zoo, tmp_path: Path) -> None:
    seen = Seen(tmp_path, STEPS)
    _, weights = train(zoo.build("edic"), EMAWeightAveraging(decay=0.5), seen)
    plain = Seen(tmp_path, STEPS)
    train(zoo.build("edic"), plain)
    name = "g_a.0.weight"
    assert torch.equal(seen.weights[STEPS][name], weights[f"codec.{name}"])
    assert not torch.equal(seen.weights[STEPS][name], plain.weights[STEPS][name])


def test_a_codec_that_cannot_be_coded_yet_stops_nothing(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(Seen):
        def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
            raise BitstreamError("nothing fits")

    trainer, _ = train(zoo.build("mean_scale"), Fails(tmp_path, 2))
    assert trainer.global_step == STEPS
    lines = [s for s in capsys.readouterr().err.splitlines() if s.startswith("lic_train:")]
    assert lines == [f"lic_train: no Fails of step {step}: nothing fits" for step in (2, 4)]


def test_with_other_ranks_a_thread_looks(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 trains on while it is looked at; a look that comes too soon is left out, aloud."""
    monkeypatch.setattr(pl.Trainer, "world_size", property(lambda _: 2))
    seen = Seen(tmp_path, 1, wait=3.0, draws=False)
    _, weights = train(zoo.build("mean_scale"), seen)
    assert list(seen.weights) == [1]  # waited for at the end, not in between
    assert "no Seen of step 2: the look at step 1 is not over" in capsys.readouterr().err
    _, alone = train(zoo.build("mean_scale"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in alone.items())


@pytest.mark.parametrize("stem", ["edic", "joint_prior", "flow", "rnn", "compass"])
def test_latents_are_all_there(stem: str, zoo: Zoo) -> None:
    """The bits that the figures show are those of the likelihoods, whatever kind of codec."""
    codec = zoo.ready(stem)
    x = zoo.photo(70, 90)
    if stem in ("rnn",):
        x = zoo.photo(32, 32)
    found = inspect(codec, x)
    with torch.no_grad():
        parts = codec(x)
    bits = sum(-p.log2().sum().item() for r in parts for p in r.likelihoods.values())
    assert sum(b.sum() for b in found.channels.values()) == pytest.approx(bits, rel=1e-4)
    maps = [p for r in parts for p in r.likelihoods.values() if p.ndim == 4]
    assert found.where.shape == x.shape[-2:]
    expected = sum(-p.log2().sum().item() for p in maps)
    assert found.where.sum() == pytest.approx(expected, rel=1e-3)
    assert len(found.densities) == 6 * len(codec.entropy_bottlenecks())
    for density in found.densities:  # a density over unit bins sums to 1 over whole numbers
        step = density.value[1] - density.value[0]
        assert density.probability.sum() * step == pytest.approx(1, abs=0.05)
    assert not any("_likelihood" in vars(module) for module in codec.modules())


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"images": 0}])
def test_settings_that_make_no_sense(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((ValueError, DataError), match="give 1 or more"):
        RDCurve(tmp_path, evaluator=Evaluator(), **{"every_n_steps": 1, "images": 1} | options)
