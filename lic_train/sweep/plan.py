"""A command line is expanded into the points of a sweep: composed, identified and chained."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from lic_train.experiment import identity
from lic_train.runs.names import joined, with_target
from lic_train.runs.record import read
from lic_train.sweep.launchers import Launcher
from lic_train.sweep.state import POINT, SWEEP, SweepError, write
from lic_train.utils.configs import config_dir, flat
from lic_train.utils.starts import starts

OF_THE_SWEEP = ("sweep", "hydra/launcher", "hydra.launcher", "hydra.sweep", "hydra.mode")
"""Overrides that are not passed on to the points."""
MAY_CHOOSE_IMAGES = ("data", "eval_data", "experiment")
MAY_NAME = ("experiment", "model", "model._target_", "name")


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    label: str
    """What distinguishes it from the other points, e.g. ``lmbda=0.0018``."""
    directory: Path
    overrides: tuple[str, ...]
    settings: dict[str, Any]
    """What its result depends on, flat; see :mod:`lic_train.experiment.identity`."""
    start: str | None = None
    """Label of the point whose weights it starts from; ``None``: it does not depend on another."""
    along: float = 0.0
    """Value of the key along which points are chained."""


@dataclass(frozen=True)
class Plan:
    """A sweep before it starts."""

    directory: Path
    points: list[Point]
    keys: list[str]
    """Keys that are swept."""
    settings: dict[str, Any]
    """The settings that all points share and results depend on, without ``keys``."""
    flags: tuple[str, ...]
    launcher: Launcher


def plan(overrides: Sequence[str], flags: Sequence[str], config_name: str = "train") -> Plan:
    """Expand a command line into the points of a sweep.

    Args:
        overrides: as on the command line; values with commas are swept.
        flags: passed on to every point before its overrides.
        config_name: name of the main config.

    Raises:
        SweepError: two points would share a directory, the chain's key is not a number, or the
            launcher is not one of this package's.
        HydraException, OmegaConfBaseException, LicError: a config or its data is at fault.
    """
    overrides = with_target(overrides)
    with initialize_config_dir(config_dir(), version_base="1.3"):
        parser = OverridesParser.create()
        given = parser.parse_overrides(list(overrides))
        fixed = [o.input_line or "" for o in given if not o.is_sweep_override()]
        base = _compose(config_name, fixed)
        params = [f"{key}={value}" for key, value in base.sweep.params.items()]
        swept = parser.parse_overrides([*params, *overrides])
        last = {o.get_key_element(): o for o in swept}  # of two for one key
        keys = sorted(key for key, o in last.items() if o.is_sweep_override())
        along, then = base.sweep.chain.along, _overrides(base.sweep.chain.then)
        shared = {k: v for k, v in _settings(base).items() if k not in keys}
        shared |= {"sweep.chain.along": along, "sweep.chain.then": then}
        grid = [with_target(chosen) for chosen in _grid(swept)]
        if not any(key.partition(".")[0] in MAY_CHOOSE_IMAGES for key in keys):
            shared |= _images(_compose(config_name, grid[0]))
        name = identity.digest([shared, keys])
        where = base
        if any(key in MAY_NAME for key in keys):
            names = joined([str(_compose(config_name, chosen).name) for chosen in grid])
            where = _compose(config_name, [*fixed, f"name='{names}'"])
        directory = Path(str(where.hydra.sweep.dir).replace("{sweep}", name)).resolve()
        composed = [_point(config_name, directory, chosen, keys, along) for chosen in grid]
        points = list(_chained(composed, along, then, config_name))
    for one, other in itertools.combinations(points, 2):
        if one.directory == other.directory:
            raise SweepError(
                f"{one.label} and {other.label} would share {one.directory}: drop one, or give "
                "another hydra.sweep.subdir"
            )
    return Plan(directory, points, keys, shared, tuple(flags), _launcher(base.hydra.launcher))


def enter(planned: Plan) -> None:
    """Write the plan into its directory, or recognise it as the one that is already there.

    Raises:
        SweepError: the directory holds another sweep, or cannot be written.
    """
    old = read(planned.directory / SWEEP)
    keys = {*planned.keys, *old.get("keys", [])}
    if old:
        shared = [{k: v for k, v in s.items() if k not in keys}
                  for s in (old["settings"], planned.settings)]  # fmt: skip
        _refuse(planned.directory, "the sweep", identity.differences(*shared))
    for point in planned.points:
        if known := read(point.directory / POINT):
            changed = identity.differences(known["settings"], point.settings)
            _refuse(planned.directory, point.label, changed)
    labels = [str(p.directory.relative_to(planned.directory)) for p in planned.points]
    # Points of an earlier command stay part of the sweep.
    labels = [*labels, *(label for label in old.get("points", []) if label not in labels)]
    kept = {"points": labels, "keys": planned.keys, "settings": planned.settings}
    write(planned.directory / SWEEP, kept)
    for point in planned.points:
        command = [*planned.flags, *point.overrides, f"hydra.run.dir={_quoted(point.directory)}"]
        about: dict[str, Any] = {"label": point.label, "identity": identity.digest(point.settings)}
        about |= {"command": command, "start": point.start, "settings": point.settings}
        write(point.directory / POINT, about)


def _refuse(directory: Path, what: str, changed: list[str]) -> None:
    if changed:
        raise SweepError(
            f"{directory} holds {what} with other settings ({'; '.join(changed)}): "
            "give another hydra.sweep.dir, or take them back"
        )


def _launcher(config: DictConfig) -> Launcher:
    launcher = str(config.get("_target_", ""))
    if not launcher.startswith("lic_train."):  # Hydra's take functions, which cannot be killed
        raise SweepError(f"{launcher} cannot run a sweep: give hydra/launcher=local or slurm")
    made: Launcher = instantiate(config)
    return made


def _grid(overrides: list[Override]) -> list[list[str]]:
    """Every combination; the later of two overrides of one key counts."""
    typed: dict[str, str] = {}  # what is not swept stays as it was typed: the sweeper's may differ
    for override in overrides:
        key = override.get_key_element()
        typed.pop(key, None)
        if not override.is_sweep_override():
            typed[key] = override.input_line or ""
    (combinations,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [
        [typed.get(o.partition("=")[0], o) for o in combination if not _of_the_sweep(o)]
        for combination in combinations
    ]


def _of_the_sweep(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return any(key == name or key.startswith(f"{name}.") for name in OF_THE_SWEEP)


def _point(name: str, sweep: Path, overrides: list[str], keys: list[str], along: Any) -> Point:
    varied = [o for o in overrides if o.partition("=")[0] in keys]
    label = ",".join(o.lstrip("+~") for o in varied).replace("/", "_") or "point"
    cfg = _compose(name, overrides)
    with open_dict(cfg):
        folder = str(cfg.hydra.sweep.subdir).replace("{point}", label)
    value = OmegaConf.select(cfg, along) if along else 0
    if not isinstance(value, int | float):
        raise SweepError(f"sweep.chain.along={along} is {value} in {label}, which is no number")
    return Point(
        label, sweep / folder, tuple(overrides), _settings(cfg) | _images(cfg), None, value
    )


def _chained(
    points: list[Point], along: str | None, then: list[str], config_name: str
) -> Iterator[Point]:
    """Among points that differ in the chain's key alone, the others start from the highest."""
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        rest = tuple(o for o in point.overrides if o.partition("=")[0] != along)
        groups.setdefault(rest, []).append(point)
    for group in groups.values():
        if along is None:
            yield from group
            continue
        first, *others = sorted(group, key=lambda point: -point.along)
        yield first
        weights = f"{first.label}, {identity.digest(first.settings)}"
        for point in others:
            more = (*point.overrides, *then)
            cfg = _compose(config_name, list(more))
            found = _settings(cfg) | _images(cfg)
            more = (*more, f"++init_from.all.run={_quoted(first.directory)}")
            found["init_from.all"] = weights
            yield replace(point, overrides=more, settings=found, start=first.label)


def _compose(config_name: str, overrides: list[str]) -> DictConfig:
    cfg = compose(config_name, [*overrides, "++run_dir=."], return_hydra_config=True)
    HydraConfig.instance().set_config(copy.deepcopy(cfg))  # for ${hydra:...}
    return cfg


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """What matters of a config, but for the images it names."""
    plain = copy.deepcopy(cfg)
    with open_dict(plain):
        del plain["hydra"]
    found = identity.settings(OmegaConf.to_container(plain, resolve=True))
    for start in starts(cfg.init_from):
        found[f"init_from.{start.label}"] = identity.of_weights(start.run)
    return found


def _images(cfg: DictConfig) -> dict[str, str]:
    """What it trains on and evaluates; a name that is no folder here, e.g. on the hub, as it is."""
    found = {}
    for role in ("train", "eval"):
        if role in cfg.data:
            source: Any = OmegaConf.to_container(cfg.data[role], resolve=True)
            found[f"data.{role} (images)"] = _of_source(json.dumps(source))
            root = source.get("root")
            if root is not None and not Path(str(root)).expanduser().exists():
                found[f"data.{role}.root"] = str(root)
    return found


@cache
def _of_source(config: str) -> str:
    """Most sweeps have one set of images: list its files once."""
    return identity.of_source(instantiate(OmegaConf.create(json.loads(config))))


def _overrides(then: DictConfig) -> list[str]:
    """A tree of settings as overrides."""
    leaves = flat(OmegaConf.to_container(then, resolve=True))
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in leaves
    ]


def _quoted(path: Path) -> str:
    """As Hydra reads it: = and , are its own."""
    return "'" + str(path).replace("'", r"\'") + "'"
