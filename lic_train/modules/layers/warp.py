"""Backward warping: each pixel is fetched from where the motion field says it was."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(reference: Tensor, motion: Tensor) -> Tensor:
    """``out(p) = reference(p + motion(p))``, bilinear; beyond the border lies the border.

    Positions are counted between the centres of the corner pixels (``align_corners=True``, what
    ``grid_sample`` meant when DVC was written): no motion is the identity, a whole one a shift.

    Args:
        reference: ``(N, C, H, W)``.
        motion: ``(N, 2, H, W)``, in pixels, horizontal first; of the reference's type.
    """
    height, width = reference.shape[-2:]
    rows = torch.arange(height, device=motion.device, dtype=motion.dtype)[:, None]
    columns = torch.arange(width, device=motion.device, dtype=motion.dtype)
    x = 2 * (columns + motion[:, 0]) / max(width - 1, 1) - 1
    y = 2 * (rows + motion[:, 1]) / max(height - 1, 1) - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(reference, grid, "bilinear", "border", align_corners=True)
