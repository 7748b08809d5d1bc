"""Anchors by their names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lic_train.anchors.base import Coded
from lic_train.anchors.image import ANCHORS, Anchor
from lic_train.anchors.video import VIDEO_ANCHORS, VideoAnchor
from lic_train.errors import DataError


def choose(names: Sequence[str]) -> list[Anchor | VideoAnchor]:
    """The anchors of these names, absent or not.

    Raises:
        DataError: there is no anchor of a name.
    """
    every: dict[str, Anchor | VideoAnchor] = {**ANCHORS, **VIDEO_ANCHORS}
    if unknown := [name for name in names if name not in every]:
        raise DataError(f"there is no anchor {unknown[0]!r}: there are {', '.join(every)}")
    return [every[name] for name in dict.fromkeys(names)]


def code(anchor: Anchor | VideoAnchor, pixels: Tensor, quality: int) -> Coded:
    """Encode and decode one signal, as ``anchor.code``."""
    return anchor.code(pixels, quality)
