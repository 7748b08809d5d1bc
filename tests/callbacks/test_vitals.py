"""Learning rates, speed and memory are logged in the row of the loss."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import pytest
from helpers.tiny_training import crops, module, trainer
from helpers.zoo import Zoo
from torch.optim import Adam

from lic_train.callbacks.vitals import Vitals, learning_rates
from lic_train.loggers.csv_log import CSVLog
from lic_train.training.muon import muon_and_adam
from lic_train.training.optim import build_optimizer

pytestmark = pytest.mark.filterwarnings("ignore")


def test_vitals_are_in_the_row_of_the_loss(zoo: Zoo, tmp_path: Path) -> None:
    log = CSVLog(tmp_path)
    trained = trainer(tmp_path, 4, Vitals(), logger=log, log_every_n_steps=2)
    trained.fit(module(zoo.build("mean_scale")), crops())
    with log.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "3"]
    for row in rows:
        assert float(row["train/loss"]) > 0 and float(row["train/grad_norm"]) > 0
        assert float(row["lr/net"]) == pytest.approx(1e-3)
        assert float(row["lr/aux"]) == pytest.approx(1e-2)
        speed, seconds = float(row["speed/images_per_s"]), float(row["speed/s_per_step"])
        assert seconds > 0 and speed * seconds == pytest.approx(2)  # images in a batch
        assert 0.05 < float(row["memory/host_gb"]) < 100 and "memory/gpu_gb" not in row


def test_the_parts_of_an_optimizer_have_names(zoo: Zoo) -> None:
    net, aux = partial(muon_and_adam, lr=0.1, adam_lr=0.2), partial(Adam, lr=0.3)
    optimizer, _ = build_optimizer(zoo.build("mean_scale"), net, aux)
    assert dict(learning_rates(optimizer)) == {"net_muon": 0.1, "net_adam": 0.2, "aux": 0.3}
