"""An evaluation returns the rows of a codec's files and the rate gap of each file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lic_train.evaluation.forward_gap import ForwardGap
from lic_train.evaluation.rate_gap import RateGap
from lic_train.rd.points import RDPoint


class Labels(NamedTuple):
    """What all rows of one evaluation have in common."""

    dataset: str
    """Name of the images, in the column ``dataset``."""
    codec: str
    """Name of the codec, in the column ``codec``."""
    lmbda: float | None = None
    """Trade-off that the codec was trained for; ``None`` if it does not depend on one."""


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one evaluation, in the order of signals and, within a signal, of rates.

    Attributes:
        points: one row per file of the codec, then those of the anchors, if they were measured.
        gaps: one per file of the codec.
        forwards: the same where the codec has caveats, else none.
    """

    points: list[RDPoint]
    gaps: list[RateGap]
    forwards: list[ForwardGap] = field(default_factory=list)
