"""Anchors by their names."""

from __future__ import annotations

from collections.abc import Sequence

from lic_train.anchors.base import Anchor
from lic_train.anchors.image import ANCHORS
from lic_train.anchors.video import VIDEO_ANCHORS
from lic_train.errors import DataError


def choose(names: Sequence[str]) -> list[Anchor]:
    """The anchors of these names, absent or not.

    Raises:
        DataError: there is no anchor of a name.
    """
    every: dict[str, Anchor] = {**ANCHORS, **VIDEO_ANCHORS}
    if unknown := [name for name in names if name not in every]:
        raise DataError(f"there is no anchor {unknown[0]!r}: there are {', '.join(every)}")
    return [every[name] for name in dict.fromkeys(names)]
