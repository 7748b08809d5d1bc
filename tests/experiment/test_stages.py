"""Stages of a training: start weights out of earlier runs, and parts that stay as they are."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.tiny_training import crops, module, trainer
from helpers.zoo import Zoo
from torch.optim import Adam

from lic_train.codec.contract import TABLES
from lic_train.codec.export import load_weights, ready_copy, save_codec
from lic_train.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(zoo: Zoo, tmp_path: Path) -> Path:
    """A finished run of a codec with parts."""
    save_codec(tmp_path / "run", ready_copy(zoo.build("compass", 1)), zoo.config("compass"))
    return tmp_path / "run"


def test_a_part_starts_from_the_part_of_its_name_or_from_the_whole(
    run: Path, zoo: Zoo, tmp_path: Path
) -> None:
    whole, earlier = zoo.build("compass"), zoo.build("compass", 1).state_dict()
    before = copy.deepcopy(whole.state_dict())
    load_weights(whole.part("base"), run, "base")
    for name, tensor in whole.state_dict().items():
        if name.rpartition(".")[2] not in TABLES:
            expected = earlier if name.startswith("base.") else before
            assert torch.equal(tensor, expected[name]), name
        else:
            assert tensor.shape == before[name].shape  # tables stay behind
    load_weights(whole.part(""), run)
    assert all(torch.equal(p, earlier[name]) for name, p in whole.named_parameters())
    other = zoo.build("mean_scale", 2)
    save_codec(tmp_path / "other", ready_copy(other), zoo.config("mean_scale"))
    load_weights(whole.part("base"), tmp_path / "other", "base")
    same = dict(whole.part("base").named_parameters())
    assert all(torch.equal(p, same[name]) for name, p in other.named_parameters())


def test_weights_that_do_not_fit_and_parts_that_are_not_there(run: Path, zoo: Zoo) -> None:
    codec = zoo.build("compass")
    with pytest.raises(ModelError, match="do not fit nothing") as caught:
        load_weights(codec.part("base.g_a"), run, "nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no run directory"):
        load_weights(codec, run / "missing")
    with pytest.raises(ModelError, match="no part 'bass': its parts are base, residual"):
        module(codec, freeze=["bass"])


@pytest.mark.parametrize("aux", [partial(Adam, lr=1e-2), None], ids=["adam", "solve"])
def test_frozen_parts_stay_as_they_are(aux: object, zoo: Zoo, tmp_path: Path) -> None:
    codec = zoo.build("compass")
    before = copy.deepcopy(codec.state_dict())
    trained = module(codec, freeze=["base"], aux=aux)
    run = trainer(tmp_path, 2)
    run.fit(trained, datamodule=crops())
    for name, tensor in codec.state_dict().items():
        if name.startswith("base."):
            assert torch.equal(tensor, before[name]), name
    for part in ("residual", "predictor"):
        assert any(
            not torch.equal(p, before[f"{part}.{n}"])
            for n, p in codec.part(part).named_parameters()
        )
    trained.train()
    assert codec.training and not codec.part("base").training
    shown = {id(p) for p in (*trained.parameter_sets.net, *trained.parameter_sets.aux)}
    assert not shown & {id(p) for p in codec.part("base").parameters()}
    free = codec.part("residual").entropy_bottleneck.loss()  # type: ignore[operator, union-attr]
    assert torch.equal(codec.aux_loss(), free)
