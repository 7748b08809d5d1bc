"""Images of any size for networks that want multiples of their stride."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of ``(N, C, H, W)`` until both sides are multiples.

    Repeating costs fewer bits than zeros, which would put an edge into the latents.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def crop_to(x: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`pad_to_multiple`: keep the top left ``height`` x ``width``."""
    return x[..., :height, :width]


def ceil_div(size: int, stride: int) -> int:
    """How many steps of ``stride`` cover ``size``."""
    return -(-size // stride)
