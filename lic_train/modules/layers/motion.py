"""Motion: a pyramid of small networks that estimates it, and warping along it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_train.modules.layers.padding import crop_to, pad_to_multiple


class MotionPyramid(nn.Module):
    """SpyNet (Ranjan, Black 2017, arXiv 1611.00850) with the levels and input that DVC gives it.

    ::

        x, reference -> halved, halved, ...
        coarsest: v = 0;  then at every level:
        v -> twice as large, doubled -> v + net(x, warp(reference, v), v)

    From the finest level, ``(N, 3, H, W)`` twice, comes the motion ``(N, 2, H, W)`` in pixels. The
    first layers start blind to brightness and the last ones at zero: an untrained pyramid sees no
    motion. Not reproduced: SpyNet's normalisation by ImageNet's colours, which DVC leaves out too.

    Args:
        features: width of the nets; 32 is the paper's.
        levels: of the pyramid, coarse to fine; 4 is DVC's.
    """

    def __init__(self, features: int = 32, levels: int = 4) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_refine(features) for _ in range(levels))

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 2 ** (len(self.levels) - 1)
        pairs = [(pad_to_multiple(x, multiple), pad_to_multiple(reference, multiple))]
        for _ in range(len(self.levels) - 1):
            pairs.append(tuple(F.avg_pool2d(image, 2) for image in pairs[-1]))  # type: ignore[arg-type]
        motion = torch.zeros_like(pairs[-1][0][:, :2])
        for net, (image, before) in zip(self.levels, reversed(pairs), strict=True):
            if motion.shape[-2:] != image.shape[-2:]:
                motion = 2 * F.interpolate(motion, scale_factor=2, mode="bilinear")
            features = torch.cat((image, warp(before, motion), motion), dim=1)
            reach = max(image.shape[-2:])  # nothing moves further than across the picture
            motion = (motion + net(features).float()).clamp(-reach, reach)
        return crop_to(motion, height, width)


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


def _refine(features: int) -> nn.Sequential:
    """One level: 3 + 3 + 2 channels to what is added to the motion."""
    widths = (8, features, 2 * features, features, max(1, features // 2), 2)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU(inplace=True)]
    first: Any = layers[0]
    images = first.weight.data[:, :6]
    images -= images.mean((2, 3), keepdim=True)  # edges move, brightness does not
    images *= 2  # edges are faint beside a motion in pixels
    last: Any = layers[-2]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
