"""Motion compensation: a small network cleans what warping tore."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic_train.modules.layers.padding import crop_to, pad_to_multiple


class Block(nn.Module):
    """ReLU, conv3x3, ReLU, conv3x3, skip."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True), nn.Conv2d(features, features, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Compensation(nn.Module):
    """DVC's motion compensation network (arXiv 1812.00101, appendix C), a U of three scales.

    ``(warped, reference, motion) -> prediction``, all of one size, any. The last layer starts at
    zero, so that an untrained network predicts the warped frame.

    Args:
        features: width; 64 is the paper's.
        sees_motion: the motion is an input too, as in the paper; the authors' group's code
            leaves it out.
        adds_warped: the network corrects the warped frame, as in that code; in the paper it
            makes the prediction by itself.
    """

    def __init__(
        self, features: int = 64, sees_motion: bool = False, adds_warped: bool = True
    ) -> None:
        super().__init__()
        self.sees_motion, self.adds_warped = sees_motion, adds_warped
        self.head = nn.Sequential(
            nn.Conv2d(8 if sees_motion else 6, features, 3, padding=1), nn.ReLU(inplace=True)
        )
        self.down = nn.ModuleList(Block(features) for _ in range(2))
        self.bottom = nn.Sequential(Block(features), Block(features))
        self.up = nn.ModuleList(Block(features) for _ in range(2))
        self.tail = nn.Conv2d(features, 3, 3, padding=1)
        if adds_warped:
            bias: Any = self.tail.bias
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(bias)

    def forward(self, warped: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
        seen = (warped, reference, motion) if self.sees_motion else (warped, reference)
        features = self.head(pad_to_multiple(torch.cat(seen, dim=1), 2 ** len(self.down)))
        skips = []
        for block in self.down:
            features = block(features)
            skips.append(features)
            features = F.avg_pool2d(features, 2)
        features = self.bottom(features)
        for block in self.up:
            features = skips.pop() + _twice(features)
            features = block(features)
        correction = crop_to(self.tail(features), *warped.shape[-2:])
        return warped + correction if self.adds_warped else correction


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
