"""Under the real Trainer: one batch is one step, resuming is going on, and nonsense stops a run."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.tiny_training import crops, module, trainer
from helpers.zoo import SHRUNK_EDIC, Zoo
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from lic_train.codec import Codec
from lic_train.codec.contract import TABLES
from lic_train.codec.export import ready_copy
from lic_train.data.datamodule import Batch
from lic_train.errors import TrainingError
from lic_train.training.schedules import warmup_cosine
from lic_train.utils.configs import config_dir

pytestmark = pytest.mark.filterwarnings("ignore")
BATCHES_PER_EPOCH = 4


class Diary(Callback):
    """What happened, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.rates: list[float] = []  # the net's learning rate of each step
        self.aux_rates: list[float] = []
        self.weights: list[dict[str, Tensor]] = []  # after each batch
        self.noise: list[Tensor] = []  # state of torch's generator after each batch

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.aux_rates += [part.param_groups[0]["lr"] for part in optimizer.parts[1:]]

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch.names)
        self.weights.append(copy.deepcopy(module.state_dict()))
        self.noise.append(torch.get_rng_state())


def loader(batches: list[Batch]) -> DataLoader[Any]:
    """These batches, in this order, each epoch; torch's own generator is left alone."""
    own = torch.Generator()
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch, generator=own)  # type: ignore[arg-type]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


# --- counting


def test_one_batch_is_one_step_with_two_optimizers(zoo: Zoo, tmp_path: Path) -> None:
    diary = Diary()
    schedule = partial(warmup_cosine, steps=10, warmup=3)
    run = trainer(tmp_path, 10, diary)
    run.fit(module(zoo.build("edic"), scheduler=schedule), datamodule=crops())
    assert run.global_step == 10 and len(diary.batches) == 10
    expected = [1 / 3, 2 / 3, 1] + [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(7)]
    assert diary.rates == pytest.approx([1e-3 * factor for factor in expected])
    assert diary.aux_rates == [1e-2] * 10
    # Both optimizers did step.
    first, last = diary.weights[0], diary.weights[-1]
    for name in ("codec.g_a.0.weight", "codec.entropy_bottleneck.quantiles"):
        assert not torch.equal(first[name], last[name])


def test_accumulated_batches_are_one_step(zoo: Zoo, tmp_path: Path) -> None:
    diary = Diary()
    schedule = partial(warmup_cosine, steps=3)
    run = trainer(tmp_path, 3, diary, accumulate_grad_batches=2)
    run.fit(module(zoo.build("mean_scale"), scheduler=schedule), datamodule=crops())
    assert run.global_step == 3 and len(diary.batches) == 6
    assert diary.rates == pytest.approx([1e-3, 0.75e-3, 0.25e-3])


# --- the two sets


class HugeAux(nn.Module):
    """Mixed into a codec: an aux loss, and so quantile gradients, a million times as large."""

    def aux_loss(self) -> Tensor:
        return 1e6 * Codec.aux_loss(self)  # type: ignore[arg-type]


def test_quantile_gradients_do_not_scale_the_step_of_the_net(zoo: Zoo, tmp_path: Path) -> None:
    weights = []
    for huge in (False, True):
        codec = zoo.build("mean_scale")
        if huge:
            codec.__class__ = type("Huge", (HugeAux, type(codec)), {})
        # Plain SGD: Adam would hide a scaled gradient.
        sgd = module(codec, net=partial(SGD, lr=0.1), aux=partial(SGD, lr=1e-9), clip_norm=1.0)
        diary = Diary()
        pl.seed_everything(0, verbose=False)
        trainer(tmp_path, 2, diary).fit(sgd, datamodule=crops())
        weights.append([d for d in diary.weights])
    plain, huge_too = (
        [{n: t for n, t in w.items() if "quantiles" not in n} for w in each] for each in weights
    )
    assert_same(plain[0], huge_too[0])
    assert_same(plain[1], huge_too[1])
    quantiles = "codec.entropy_bottleneck.quantiles"
    assert not torch.equal(weights[0][1][quantiles], weights[1][1][quantiles])


def test_gradients_of_the_net_are_clipped(zoo: Zoo, tmp_path: Path) -> None:
    start = zoo.build("mean_scale")
    moved = []
    for clip_norm in (1e-3, None):
        sgd = module(copy.deepcopy(start), net=partial(SGD, lr=1.0), clip_norm=clip_norm)
        before = [p.detach().clone() for p in sgd.parameters()]
        pl.seed_everything(0, verbose=False)
        trainer(tmp_path, 1).fit(sgd, datamodule=crops())
        difference = [
            (a - b).norm()
            for (name, a), b in zip(sgd.named_parameters(), before, strict=True)
            if "quantiles" not in name
        ]
        moved.append(torch.stack(difference).norm().item())
    assert moved[0] == pytest.approx(1e-3, rel=1e-2) and moved[1] > 1e-2


def test_solved_quantiles_are_not_trained(zoo: Zoo, tmp_path: Path) -> None:
    solving = module(zoo.build("mean_scale"), aux=None)
    assert solving.solves_quantiles
    before = solving.codec.entropy_bottlenecks()[0].quantiles.detach().clone()
    # The densities move, the quantiles stay behind.
    diary = Diary()
    trainer(tmp_path, 10, diary).fit(solving, datamodule=crops())
    (bottleneck,) = solving.codec.entropy_bottlenecks()
    assert not bottleneck.quantiles.requires_grad and diary.aux_rates == []
    assert torch.equal(bottleneck.quantiles, before)
    left, solved = (ready_copy(solving.codec, solve).aux_loss().item() for solve in (False, True))
    assert solved < 0.01 * left and solved / bottleneck.channels < 0.1


# --- checkpoints


def test_a_checkpoint_holds_no_tables_and_runs_no_code(zoo: Zoo, tmp_path: Path) -> None:
    trained = module(zoo.build("mean_scale"))
    run = trainer(tmp_path, 2)
    run.fit(trained, datamodule=crops())
    assert ready_copy(trained.codec)._fingerprint is not None  # tables are made on a copy
    run.save_checkpoint(tmp_path / "x.ckpt")
    state = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    tables = {name: t for name, t in state.items() if name.rpartition(".")[2] in TABLES}
    assert any(name.endswith("_quantized_cdf") for name in tables)
    assert all(t.numel() == 0 for t in tables.values())
    assert_same(state, trained.state_dict())


# --- what stops a run


def test_a_bad_image_is_named_and_leaves_the_weights_alone(zoo: Zoo, tmp_path: Path) -> None:
    good = Batch(zoo.batch()[:2], ["good.png", "fine.png"])
    bad = Batch(good.x.clone(), ["good.png", "broken.png"])
    bad.x[1, 0, 5, 5] = math.nan
    diary = Diary()
    trained = module(zoo.build("edic"))
    message = (
        r"loss is nan at step 2, images good\.png, broken\.png.*"
        r"optimizer\.net\.lr"
    )
    with pytest.raises(TrainingError, match=message):
        trainer(tmp_path, 5, diary).fit(trained, train_dataloaders=loader([good, good, bad]))
    assert len(diary.weights) == 2
    assert_same(trained.state_dict(), diary.weights[-1])
    assert all(t.isfinite().all() for t in trained.state_dict().values())


def test_a_gradient_that_is_not_finite_stops_before_the_step(zoo: Zoo, tmp_path: Path) -> None:
    trained = module(zoo.build("mean_scale"))
    before = copy.deepcopy(trained.state_dict())
    weight = next(trained.codec.g_a.parameters())
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"gradient is (inf|nan) at step 0"):
        trainer(tmp_path, 3).fit(trained, datamodule=crops())
    assert_same(trained.state_dict(), before)


# --- variants of the loop


def test_averaged_weights_are_what_a_run_ends_with(zoo: Zoo, tmp_path: Path) -> None:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", ["callbacks=ema", "callbacks.ema.decay=0.5"]).callbacks.ema
    trained = module(zoo.build("mean_scale"))
    diary = Diary()
    trainer(tmp_path, 5, diary, instantiate(config)).fit(trained, datamodule=crops())
    raw = [state["codec.g_a.0.weight"] for state in diary.weights]
    average = raw[0]
    for weight in raw[1:]:
        average = 0.5 * average + 0.5 * weight
    exported = ready_copy(trained.codec).state_dict()["g_a.0.weight"]
    assert torch.allclose(exported, average, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(exported, raw[-1], rtol=1e-5, atol=1e-7)


def test_bf16_bodies_and_float32_likelihoods(zoo: Zoo, tmp_path: Path) -> None:
    for stem in ("edic", "joint_prior"):
        trained = module(zoo.build(stem))
        seen: dict[str, torch.dtype] = {}

        def look(part: Any, inputs: Any, output: Any, seen: dict[str, torch.dtype] = seen) -> None:
            if isinstance(output, Tensor):
                seen["g_a"] = output.dtype
            else:
                seen.update({name: p.dtype for name, p in output[0].likelihoods.items()})

        trained.codec.register_forward_hook(look)
        trained.codec.g_a.register_forward_hook(look)
        run = trainer(tmp_path, 2, precision="bf16-mixed")
        run.fit(trained, datamodule=crops())
        assert seen == {"g_a": torch.bfloat16, "y": torch.float32, "z": torch.float32}
        assert run.callback_metrics["train/loss"].dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in trained.parameters())


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    overrides = [
        "experiment=edic_gmm",
        "debug=fast",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "data.crop_size=64",
        "logger=csv",
        "look_every=1",
        f"hydra.run.dir={tmp_path / 'run'}",
        *SHRUNK_EDIC,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lic_train", *overrides],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 x cpu" in done.stdout and "unused" not in done.stderr
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    assert (tmp_path / "run" / "rd_points.csv").is_file()
    assert (tmp_path / "run" / "live" / "rd_00000001.csv").is_file()  # rank 0 alone looked
