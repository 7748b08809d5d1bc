"""CompressAI's image architectures by name, at the widths of its qualities."""

from __future__ import annotations

import inspect
from typing import Any

import compressai.models
import compressai.zoo.image
import compressai.zoo.image_vbr
from compressai.registry import MODELS
from torch import nn

SIGNALS = ("compressai.models.video", "compressai.models.pointcloud")
"""Where those of other signals than images are."""
QUALITY = 3
"""Of architectures that have qualities, unless another is given."""


def architectures() -> list[str]:
    """Names of all that this installation has."""
    return sorted(name for name in MODELS if not MODELS[name].__module__.startswith(SIGNALS))


def build_architecture(
    arch: str, quality: int | None = None, N: int | None = None, M: int | None = None
) -> nn.Module:
    """A network with fresh weights.

    Args:
        arch: one of :func:`architectures`.
        quality: whose widths it gets: 1 is the coarsest. None is :data:`QUALITY` where there are
            several, else the only widths there are.
        N: channels of the transforms; None: those of the quality.
        M: channels of y.

    Raises:
        ValueError: there is no such architecture, quality or width.
    """
    known = architectures()
    if arch not in known:
        raise ValueError(f"arch is {arch!r}: this version of CompressAI has {', '.join(known)}")
    made: Any = MODELS[arch]
    names = [name for name in inspect.signature(made).parameters if name in ("N", "M")]
    sizes = dict(zip(names, _widths(arch, quality), strict=False))
    for name, width in (("N", N), ("M", M)):
        if width is not None and name not in names:
            raise ValueError(f"{name} is {width}: {arch} has no such width")
        if width is not None:
            sizes[name] = width
    try:
        net: nn.Module = made(**sizes)
    except (RuntimeError, AssertionError, ZeroDivisionError) as error:
        raise ValueError(f"{arch} has no such widths as {sizes} ({error})") from None
    return net


def _widths(arch: str, quality: int | None) -> tuple[int, ...]:
    of_qualities: dict[str, Any] = compressai.zoo.image.cfgs
    only: dict[str, Any] = compressai.zoo.image_vbr.cfgs
    if arch in of_qualities:
        widths = of_qualities[arch]
        chosen = QUALITY if quality is None else quality
        if chosen not in widths:
            last = max(widths)
            raise ValueError(f"quality is {chosen}: those of {arch} are {min(widths)} to {last}")
        return tuple(widths[chosen])
    if quality is not None:
        raise ValueError(f"quality is {quality}: {arch} has one size only, leave it out")
    return tuple(only.get(arch, ()))
