"""Several processes are one run: real ones, forked, that talk over gloo."""

from __future__ import annotations

import contextlib
import hashlib
import math
import multiprocessing
import os
import signal
import socket
import types
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from compressai.entropy_models import EntropyModel
from helpers.zoo import Zoo
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed
from torch.optim import SGD, Adam

from lic_train.callbacks.checkpoints import LAST, Checkpoints
from lic_train.callbacks.stopping import Stopped
from lic_train.codec import Codec
from lic_train.data.datamodule import ImageDataModule, Signals
from lic_train.data.sources import ImageSource, Samples
from lic_train.data.transforms import RandomResizedCrop
from lic_train.errors import DataError, TrainingError
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.experiment.build import scale_to_ranks
from lic_train.loggers.csv_log import CSVLog
from lic_train.modules.codec_module import CodecModule
from lic_train.training.loss import RateDistortionLoss
from lic_train.utils.ranks import Leaving, gathered, shared_work

pytestmark = pytest.mark.filterwarnings("ignore")
PHOTOS = Samples("train", limit=3)
Work = Callable[[int], Any]


def _child(rank: int, port: int, work: Work, results: Any) -> None:
    os.environ |= {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"},
        **{"LOCAL_RANK": str(rank), "RANK": str(rank), "NODE_RANK": "0"},
    }
    torch.set_num_threads(1)
    try:
        results.put((rank, work(rank)))
    except BaseException as error:
        results.put((rank, error))


def two(work: Work) -> list[Any]:
    """What ``work`` gives, or raises, on ranks 0 and 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=_child, args=(r, port, work, results)) for r in (0, 1)]
    for process in processes:
        process.start()
    found = dict(results.get() for _ in processes)
    for process in processes:
        process.join(60)
    return [found[0], found[1]]


def noiseless(codec: Codec) -> Codec:
    """Training without the noise that stands for rounding: two ranks draw other noise than one
    process with all their samples, as it is seeded by rank."""

    def quantize(self: Any, x: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        return x if mode == "noise" else EntropyModel.quantize(self, x, mode, means)

    for model in codec.modules():
        if isinstance(model, EntropyModel):
            model.quantize = types.MethodType(quantize, model)
    return codec


class Sent(Callback):
    """Sends this process a signal before a batch."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def fit(
    codec: Codec,
    folder: Path,
    ranks: int,
    steps: int,
    *more: Callback,
    photos: ImageSource = PHOTOS,
    num_workers: int = 0,
    **options: Any,
) -> Any:
    """Weights after training on batches of 4 samples, whoever computes them."""
    crop, sizes = RandomResizedCrop(64), {"batch_size": 4 // ranks, "eval_crop": 64}
    data = ImageDataModule(photos, PHOTOS, crop, num_workers=num_workers, **sizes)
    # Not Adam, which makes as much of gradients that are rounding errors as of any others.
    net, aux = partial(SGD, lr=1e-2, momentum=0.9), partial(Adam, lr=1e-2)
    module = CodecModule(codec, RateDistortionLoss(0.01), net, aux, seed=3)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        callbacks=[*more, Checkpoints(folder, every_n_steps=4)],
        logger=CSVLog(folder / "log"),
        log_every_n_steps=1,
        val_check_interval=10,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False),
        **options,
    )
    last = folder / LAST
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    return {name: t.numpy().copy() for name, t in module.codec.state_dict().items()}


def losses(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in CSVLog(folder / "log").path.read_text().splitlines()]


def test_two_ranks_are_one_process_with_twice_the_batch(zoo: Zoo, tmp_path: Path) -> None:
    start = zoo.trained("mean_scale")
    state = start.state_dict()

    def train(ranks: int, folder: Path) -> Any:
        codec = zoo.build("mean_scale")
        codec.load_state_dict(state)
        return fit(noiseless(codec), folder, ranks, steps=20)

    first, second = two(lambda rank: train(2, tmp_path / "two"))
    one = train(1, tmp_path / "one")
    apart, way = 0.0, 0.0
    for name, expected in one.items():
        assert (first[name] == second[name]).all(), name  # the quantiles among them
        apart += ((first[name] - expected) ** 2).sum()
        way += ((expected - state[name].numpy()) ** 2).sum()
    assert math.sqrt(apart) < 1e-5 * math.sqrt(way), (apart, way)
    quantiles = "entropy_bottleneck.quantiles"
    assert (one[quantiles] != state[quantiles].numpy()).any()
    # What is logged is the mean over ranks, of every batch and of the validations.
    (head, *rows), (head_two, *rows_two) = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert head == head_two and len(rows) == len(rows_two) == 22
    for row, row_two in zip(rows, rows_two, strict=True):
        assert [float(v or 0) for v in row_two] == pytest.approx(
            [float(v or 0) for v in row], rel=1e-4
        )


def test_one_rank_is_told_and_both_leave_and_come_back(
    zoo: Zoo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def train(rank: int, folder: Path, *more: Callback) -> Any:
        return fit(zoo.build("rnn"), folder, 2, 6, *more)

    calm = two(lambda rank: train(rank, tmp_path / "calm"))
    harried = tmp_path / "harried"
    first, second = two(lambda rank: train(rank, harried, *[Sent(at=2)] * rank))
    assert isinstance(first, Stopped) and isinstance(second, Leaving)
    assert torch.load(harried / LAST, weights_only=True)["global_step"] == 3
    again = two(lambda rank: train(rank, harried))
    for name in calm[0]:
        assert (calm[0][name] == again[0][name]).all() and (calm[0][name] == again[1][name]).all()
    assert losses(harried) == losses(tmp_path / "calm")
    # Another number of processes: aloud, and training goes on.
    capfd.readouterr()
    assert "processes" not in capfd.readouterr().err
    fit(zoo.build("rnn"), harried, 1, 8)
    errors = capfd.readouterr().err
    assert "1 processes instead of 2, 4 samples a batch instead of 2 from batch 6 on" in errors
    assert torch.load(harried / LAST, weights_only=True)["global_step"] == 8


class Noise(ImageSource):
    """12 images in which no crop is twice."""

    def __len__(self) -> int:
        return 12

    def name(self, index: int) -> str:
        return f"{index:02}"

    def pixels(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        return torch.randint(256, (3, 90, 80), dtype=torch.uint8, generator=generator)


class Seen(Callback):
    """Notes what is trained on: number of the batch, name of the image, digest of its crop."""

    def __init__(self) -> None:
        self.crops: Counter[tuple[int, str, str]] = Counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        for name, x in zip(batch.names, batch.x, strict=True):
            digest = hashlib.sha256(x.numpy().tobytes()).hexdigest()
            self.crops[trainer.global_step, name, digest] += 1


def test_two_ranks_stopped_amid_a_pass_see_the_crops_of_one_process(
    zoo: Zoo, tmp_path: Path
) -> None:
    def crops(ranks: int, folder: Path, workers: int, *more: Callback) -> Any:
        seen = Seen()
        with contextlib.suppress(Stopped, Leaving):
            fit(
                *(zoo.build("mean_scale"), folder, ranks, 6, seen, *more),
                **{"photos": Noise(), "num_workers": workers, "limit_val_batches": 0},
            )
        return seen.crops

    one = crops(1, tmp_path / "one", 1)
    for first in (0, 3):  # each pass of three batches has every image once
        names = [name for step, name, _ in one if first <= step < first + 3]
        assert sorted(names) == [f"{i:02}" for i in range(12)]
    two_ranks = tmp_path / "two"
    before = two(lambda rank: crops(2, two_ranks, 1, *[Sent(at=1)] * rank))
    assert {step for step, _, _ in before[0]} == {0, 1}
    after = two(lambda rank: crops(2, two_ranks, 0))
    assert sum(before + after, Counter()) == one


class Spoilt(Callback):
    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        batch.x[0, 0, 0, 0] = math.nan


def test_a_bad_image_of_one_rank_ends_both(zoo: Zoo, tmp_path: Path) -> None:
    def train(rank: int) -> Any:
        return fit(zoo.build("mean_scale"), tmp_path, 2, 3, *[Spoilt()] * rank)

    first, second = two(train)
    assert isinstance(first, TrainingError) and isinstance(second, Leaving)
    # The second rank's images are the second and the fourth draw.
    draws = ImageDataModule(PHOTOS, PHOTOS, RandomResizedCrop(64), 4).draws
    names = ", ".join(PHOTOS.name(draws.image_index(k)) for k in (1, 3))
    assert f"the loss is nan at step 0, images {names}:" in str(first)


def test_ranks_that_share_the_evaluation_get_the_rows_of_one(zoo: Zoo, tmp_path: Path) -> None:
    """Three images for two ranks; every file, every number but the seconds."""
    codec, source = zoo.ready("rnn"), Samples("train", limit=3, longest_side=48)

    def rows(folder: Path) -> Any:
        def code(numbers: range) -> Any:
            signals = [s for i, s in enumerate(Signals(source)) if i in numbers]
            return evaluate(codec, signals, Labels("d", "n", 1.0), out_dir=folder).points

        return [
            (p.image, p.rate, p.bytes, p.bpp, p.bpp_estimated, p.psnr, p.ms_ssim != p.ms_ssim)
            for p in shared_work(len(source), code)
        ]

    def work(rank: int) -> Any:
        distributed.init_process_group("gloo")
        return rows(tmp_path / "two")

    expected = rows(tmp_path / "one")
    assert two(work) == [expected, expected] and len(expected) == 3 * codec.num_rates
    files = [sorted((tmp_path / n / "bitstreams").iterdir()) for n in ("one", "two")]
    assert [(f.name, f.read_bytes()) for f in files[0]] == [
        (f.name, f.read_bytes()) for f in files[1]
    ]


def test_a_fault_of_one_rank_is_told_once() -> None:
    def fail(numbers: range) -> list[int]:
        if 1 in numbers:
            raise DataError("number 1 is bad")
        return list(numbers)

    def work(rank: int) -> Any:
        distributed.init_process_group("gloo")
        assert gathered(rank) == [0, 1]
        assert shared_work(1, list) == [0]  # there is nothing left for the second
        return shared_work(3, fail)

    first, second = two(work)
    assert isinstance(first, DataError) and "number 1" in str(first)
    assert isinstance(second, Leaving) and second.code == 0


@pytest.mark.parametrize(
    "batch, lr, expected",
    [
        ("each", "none", (6, 1)),
        ("each", "linear", (6, 2)),
        ("each", "sqrt", (6, math.sqrt(2))),
        ("total", "linear", (3, 1)),
        ("total", "half", "ranks.lr"),
        ("some", "none", "ranks.batch_size"),
    ],
)
def test_nothing_is_scaled_unless_it_is_said(batch: str, lr: str, expected: Any) -> None:
    data = ImageDataModule(PHOTOS, PHOTOS, RandomResizedCrop(64), 6)
    trainer: Any = types.SimpleNamespace(world_size=2)
    ranks = OmegaConf.create({"batch_size": batch, "lr": lr})
    if isinstance(expected, str):
        with pytest.raises(TrainingError, match=expected):
            scale_to_ranks(ranks, data, trainer)
    else:
        scale = scale_to_ranks(ranks, data, trainer)
        assert (data.batch_size, scale) == expected


def test_ranks_that_cannot_share_a_batch_say_so(zoo: Zoo) -> None:
    data = ImageDataModule(PHOTOS, PHOTOS, RandomResizedCrop(64), 7)
    trainer: Any = types.SimpleNamespace(world_size=2)
    with pytest.raises(TrainingError, match="2 ranks cannot share batches of 7"):
        scale_to_ranks(OmegaConf.create({"batch_size": "total", "lr": "none"}), data, trainer)
    module = CodecModule(
        zoo.build("mean_scale"), RateDistortionLoss(0.01), partial(Adam, lr=1e-3), lr_scale=2.0
    )
    assert [g["lr"] for g in module.configure_optimizers().param_groups] == [2e-3]
