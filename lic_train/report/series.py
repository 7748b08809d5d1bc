"""Runs that differ in nothing but lambda are one curve; each is named by what tells it apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lic_train.rd.points import RDPoint
from lic_train.report.runs import Run
from lic_train.runs.names import curve

ALONG = ("lmbda", "loss.lmbda")
"""What changes along a curve."""
ELSEWHERE = (
    *("run_dir", "name", "look_every", "logger", "callbacks", "evaluation", "init_from", "sweep"),
    *("title", "tags", "notes", "report"),
    *("trainer.accelerator", "trainer.devices", "trainer.default_root_dir"),
)
"""Settings, or groups of them, that no result depends on."""


@dataclass
class Series:
    """The operating points of a codec, of one or more runs."""

    label: str
    """What its rows say in ``codec``; unique in a report."""
    conventional: bool
    """Whether it is an anchor: it was not trained and nothing of it is estimated."""
    points: list[RDPoint]
    runs: list[Run]
    of_lmbda: dict[float | None, Run]
    """Which run a lambda's rows are of."""


def settings(config: Mapping[str, Any], along: Sequence[str] = ALONG) -> dict[str, Any]:
    """What matters of a flat config beside ``along``."""
    return {
        key: value
        for key, value in config.items()
        if not any(key == name or key.startswith(f"{name}.") for name in (*ELSEWHERE, *along))
    }


def collect(runs: Sequence[Run]) -> tuple[list[Series], list[str]]:
    """The series of all runs, trained ones first, and a line for everything that was left out."""
    groups: dict[str, list[tuple[Run, str]]] = {}
    anchors: dict[str, list[Run]] = {}
    for run in runs:
        for name in dict.fromkeys(p.codec for p in run.points if p.bpp_estimated is not None):
            groups.setdefault(_key(run, name), []).append((run, name))
        for name in dict.fromkeys(p.codec for p in run.points if p.bpp_estimated is None):
            anchors.setdefault(name, []).append(run)
    labels = _labels([members[0] for members in groups.values()])
    notes: list[str] = []
    series = [
        _series(label, members[0][1], [run for run, _ in members], False, notes)
        for label, members in zip(labels, groups.values(), strict=True)
    ]
    for name, members in anchors.items():
        # A name that rows with and without an estimate share is that of two curves.
        label = f"{name} (anchor)" if name in labels else name
        series.append(_series(label, name, members, True, notes))
    return series, notes


def _key(run: Run, name: str) -> str:
    """Equal for runs of one curve. Points of a sweep may differ in more, e.g. where they start."""
    if run.swept is not None:
        mine: Any = [str(run.trained.parent), run.swept]
    elif run.config:
        mine = settings(run.config)
    else:  # an evaluation of an earlier version: it does not say of which run it is
        mine = str(run.path.parent)
    return json.dumps([name, mine, run.about["set"]], sort_keys=True, default=str)


def _series(
    label: str, name: str, runs: Sequence[Run], conventional: bool, notes: list[str]
) -> Series:
    """One row per image, lambda and rate; where runs disagree, the first one's."""
    rows: dict[tuple[str, str, float | None, int], RDPoint] = {}
    of_lmbda: dict[float | None, Run] = {}
    again = 0
    for run in runs:
        for p in run.points:
            if p.codec != name or (p.bpp_estimated is None) != conventional:
                continue
            first = rows.setdefault((p.dataset, p.image, p.lmbda, p.rate), replace(p, codec=label))
            of_lmbda.setdefault(p.lmbda, run)
            again += (first.bytes, first.psnr) != (p.bytes, p.psnr)
    if again:
        where = " and ".join(run.label for run in runs)
        notes.append(f"{label}: {again} rows of {where} are of the same points but differ; "
                     "the first ones count")  # fmt: skip
    return Series(label, conventional, list(rows.values()), list(runs), of_lmbda)


def _labels(members: Sequence[tuple[Run, str]]) -> list[str]:
    """The codec's name and, where several share it, what differs."""
    labels = []
    for run, name in members:
        rivals = [other for other, its in members if its == name and other is not run]
        if not rivals:
            labels.append(curve(name, run.swept or run.about["set"]))
            continue
        if run.swept:
            labels.append(curve(name, [*run.swept, *run.about["set"]]))
            continue
        mine = settings(run.config)
        # What a run does not say of itself, it does not differ in.
        theirs = [known for other in rivals if (known := settings(other.config))]
        keys = [k for k in mine if any(other.get(k) != mine[k] for other in theirs)]
        short = _without_repeats(keys, [mine, *theirs])
        differs = [f"{key}={mine[key]}" for key in short if not key.endswith("_target_")]
        labels.append(curve(name, [*differs, *run.about["set"]]))
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({run.label})" for label, (run, _) in zip(labels, members, strict=True)]
    return labels


def _without_repeats(keys: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of settings that always change together, the one with the shortest name."""
    seen: dict[str, str] = {}
    for key in sorted(keys, key=lambda k: (k.count("."), k)):
        seen.setdefault(json.dumps([c.get(key) for c in configs], default=str), key)
    return [key for key in keys if key in seen.values()]
