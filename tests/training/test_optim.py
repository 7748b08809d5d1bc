"""Net and aux parameters never mix, and two optimizers behave as one."""

from __future__ import annotations

import copy
import io
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.zoo import Zoo
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR

from lic_train.codec import Codec
from lic_train.training.loss import RateDistortionLoss
from lic_train.training.muon import Muon, muon_and_adam, orthogonalise
from lic_train.training.optim import (
    CombinedOptimizer,
    OptimizerFactory,
    ParameterSets,
    build_optimizer,
    clip,
)
from lic_train.training.schedules import warmup_cosine
from lic_train.utils.configs import config_dir

MODELS = sorted(path.stem for path in Path(config_dir()).glob("model/*.yaml"))
ADAM = partial(Adam, lr=1e-3)


def backward(codec: Codec, x: Tensor) -> None:
    (RateDistortionLoss(0.01)(codec(x)).loss + codec.aux_loss()).backward()


# --- the two sets


@pytest.mark.parametrize("stem", MODELS)
def test_the_sets_are_disjoint_and_complete(zoo: Zoo, stem: str) -> None:
    codec = zoo.build(stem)
    sets = ParameterSets(codec)
    net, aux = {id(p) for p in sets.net}, {id(p) for p in sets.aux}
    assert len(net) == len(sets.net) and len(aux) == len(sets.aux)
    assert not net & aux
    assert net | aux == {id(p) for p in codec.parameters()}
    assert aux == {id(b.quantiles) for b in codec.entropy_bottlenecks()}


@pytest.mark.parametrize("stem", MODELS)
def test_each_loss_reaches_its_own_set_only(zoo: Zoo, stem: str) -> None:
    codec = zoo.build(stem).train()
    sets = ParameterSets(codec)
    RateDistortionLoss(0.01)(codec(zoo.batch(dims=codec.signal_dims))).loss.backward()
    assert all(p.grad is None for p in sets.aux)
    assert any(p.grad is not None and p.grad.any() for p in sets.net)
    codec.zero_grad()
    if sets.aux:
        codec.aux_loss().backward()
        assert all(p.grad is not None and p.grad.any() for p in sets.aux)
    assert all(p.grad is None for p in sets.net)


def test_frozen_parameters_are_in_neither(zoo: Zoo) -> None:
    codec = zoo.build("mean_scale")
    codec.g_a.requires_grad_(False)
    frozen = {id(p) for p in codec.g_a.parameters()}
    sets = ParameterSets(codec)
    assert frozen and not frozen & {id(p) for p in sets.net + sets.aux}


def test_a_codec_without_quantiles_gets_no_aux_optimizer(zoo: Zoo) -> None:
    assert len(build_optimizer(zoo.build("context_only"), ADAM, ADAM)[0].parts) == 1
    assert len(build_optimizer(zoo.build("mean_scale"), ADAM, ADAM)[0].parts) == 2
    assert len(build_optimizer(zoo.build("mean_scale"), ADAM, None)[0].parts) == 1


# --- several as one


@pytest.mark.parametrize("net", [ADAM, muon_and_adam], ids=["adam", "muon"])
def test_a_state_dict_goes_on_as_if_nothing_had_happened(zoo: Zoo, net: OptimizerFactory) -> None:
    def start() -> tuple[Codec, CombinedOptimizer, MultiStepLR]:
        codec = zoo.build("edic").train()
        optimizer, _ = build_optimizer(codec, net, partial(Adam, lr=1e-2))
        return codec, optimizer, MultiStepLR(optimizer, [1, 4], gamma=0.5)

    def go(codec: Codec, optimizer: CombinedOptimizer, schedule: MultiStepLR, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)  # crops and noise
            optimizer.zero_grad()
            backward(codec, zoo.batch())
            optimizer.step()
            schedule.step()

    codec, optimizer, schedule = start()
    go(codec, optimizer, schedule, range(3))
    file = io.BytesIO()
    torch.save([thing.state_dict() for thing in (codec, optimizer, schedule)], file)
    fresh = start()
    file.seek(0)
    for thing, state in zip(fresh, torch.load(file, weights_only=True), strict=True):
        thing.load_state_dict(state)
    go(codec, optimizer, schedule, range(3, 6))
    go(*fresh, range(3, 6))
    for (name, a), b in zip(codec.named_parameters(), fresh[0].parameters(), strict=True):
        assert torch.equal(a, b), name
    rates = [[g["lr"] for g in o.param_groups] for o in (optimizer, fresh[1])]
    assert rates[0] == rates[1] and schedule.get_last_lr() == fresh[2].get_last_lr()
    assert all(rate < 1e-2 for rate in rates[0])  # the milestone after the reload was met


def test_a_state_dict_of_fewer_optimizers_is_refused(zoo: Zoo) -> None:
    one, _ = build_optimizer(zoo.build("mean_scale"), ADAM, None)
    two, _ = build_optimizer(zoo.build("mean_scale"), ADAM, ADAM)
    with pytest.raises(ValueError):
        two.load_state_dict(one.state_dict())


def test_schedules_touch_the_net_alone(zoo: Zoo) -> None:
    optimizer, sets = build_optimizer(zoo.build("mean_scale"), ADAM, partial(Adam, lr=0.3))
    schedule = warmup_cosine(optimizer, steps=4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.parts[0].param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-3, 0.8535533e-3, 0.5e-3, 0.1464466e-3])
    assert optimizer.parts[0].param_groups[0]["lr"] == pytest.approx(0)
    assert optimizer.parts[1].param_groups[0]["lr"] == 0.3
    shown = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert shown == {id(p) for p in sets.net}


def test_step_and_zero_grad_reach_both(zoo: Zoo) -> None:
    codec = zoo.build("mean_scale").train()
    optimizer, sets = build_optimizer(codec, ADAM, ADAM)
    before = copy.deepcopy(codec)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        backward(codec, zoo.batch())
        return torch.tensor(7.0)

    with torch.no_grad():
        assert optimizer.step(closure).item() == 7.0
    assert calls == [True]
    moved = [
        not torch.equal(a, b)
        for a, b in zip(codec.parameters(), before.parameters(), strict=True)
        if a.grad is not None and a.grad.any()
    ]
    assert all(moved)
    assert not torch.equal(
        codec.entropy_bottlenecks()[0].quantiles, before.entropy_bottlenecks()[0].quantiles
    )
    optimizer.zero_grad()
    assert all(p.grad is None for p in sets.net + sets.aux)


# --- clipping


def with_gradients(quantiles: float) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    net, aux = ([nn.Parameter(torch.zeros(4))] for _ in range(2))
    net[0].grad = torch.full((4,), 2.0)  # norm 4
    aux[0].grad = torch.full((4,), quantiles)
    return net, aux


def test_each_set_is_clipped_by_its_own_norm() -> None:
    net, aux = with_gradients(1e6)
    assert clip(net, 1.0).item() == pytest.approx(4)
    assert clip(aux, 3.0).item() == pytest.approx(2e6)
    assert net[0].grad is not None and aux[0].grad is not None
    assert net[0].grad.tolist() == pytest.approx([0.5] * 4, rel=1e-5)
    assert aux[0].grad.norm().item() == pytest.approx(3, rel=1e-5)
    # What the peers do: both sets by one norm, and the net stands still.
    net, aux = with_gradients(1e6)
    clip(net + aux, 1.0)
    assert net[0].grad is not None and net[0].grad.norm().item() < 1e-5


def test_no_limit_clips_nothing_and_still_measures() -> None:
    net, _ = with_gradients(0.0)
    assert clip(net, None).item() == pytest.approx(4)
    assert net[0].grad is not None and net[0].grad.tolist() == [2.0] * 4
    assert clip([nn.Parameter(torch.zeros(2))], None).item() == 0


# --- schedules and Muon


def test_warmup_cosine_rises_then_falls() -> None:
    def rates(**options: float) -> list[float]:
        optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
        schedule = warmup_cosine(optimizer, **options)  # type: ignore[arg-type]
        out = []
        for _ in range(int(options["steps"]) + 2):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return out

    assert rates(steps=6, warmup=2, floor=0.1) == pytest.approx(
        [1.0, 2.0, 2.0, 1.7363961, 1.1, 0.4636039, 0.2, 0.2]
    )
    assert rates(steps=4, warmup=200)[:2] == pytest.approx([1.0, 2.0])  # at most half the run
    for steps in (0, -1):
        with pytest.raises(ValueError, match=r"trainer\.max_steps above 0"):
            rates(steps=steps)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (16, 300)])
def test_orthogonalised_matrices_move_all_directions_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scales = torch.logspace(0, -1, shape[0])  # of the rows
    matrix = torch.diag(scales) @ torch.randn(shape)
    before, after = (torch.linalg.svdvals(m.float()) for m in (matrix, orthogonalise(matrix, 5)))
    assert before.max() / before.min() > 3
    assert 0.5 < after.min() and after.max() < 1.3


def test_muon_steps_have_the_size_of_adams() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(32, 16, 5, 5))
    weight.grad = torch.randn_like(weight)
    Muon([weight], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert (weight * weight.grad).sum() < 0  # downhill


@pytest.mark.parametrize("stem", MODELS)
def test_muon_takes_convolutions_and_adam_the_rest(zoo: Zoo, stem: str) -> None:
    codec = zoo.build(stem)
    optimizer, sets = build_optimizer(codec, partial(muon_and_adam, adam_lr=1e-3), ADAM)
    muon, adam = optimizer.parts[0].parts  # type: ignore[attr-defined]
    taken = {id(p) for g in muon.param_groups for p in g["params"]}
    rest = {id(p) for g in adam.param_groups for p in g["params"]}
    assert taken and rest and not taken & rest
    assert taken | rest == {id(p) for p in sets.net}
    # The layers at the image are not among the matrices.
    assert all(p.ndim == 4 and min(p.shape[:2]) > 3 for p in sets.net if id(p) in taken)
    assert {g["lr"] for g in optimizer.param_groups} == {2e-3, 1e-3}
