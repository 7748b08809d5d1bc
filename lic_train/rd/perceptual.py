"""Perceptual distances by networks, whose ImageNet weights torchvision has or fetches.

LPIPS over AlexNet (Zhang et al. 2018, arXiv 1801.03924) and DISTS over VGG-16 (Ding et al. 2020,
arXiv 2004.07728), both torchmetrics'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric

from lic_train.errors import DataError

Distance = Callable[[Tensor, Tensor], float]
"""Of two 8-bit signals ``(..., 3, H, W)``: 0 when equal, about 1 when unlike; mean over images."""

SMALLEST_SIDE = 32
"""Below it the networks' last features have no pixel left."""


def distances(names: Iterable[str]) -> dict[str, Distance]:
    """The distances of these names, "lpips" or "dists", with their networks.

    Raises:
        DataError: no such distance; or its network's weights are neither here nor to be had.
    """
    return {name: partial(_distance, _metric(name)) for name in names}


def _metric(name: str) -> Metric:
    # Imported here: seconds that only their users should wait for.
    from torchmetrics.image.dists import DeepImageStructureAndTextureSimilarity
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metrics: dict[str, Callable[[], Metric]] = {
        "lpips": partial(LearnedPerceptualImagePatchSimilarity, net_type="alex", normalize=True),
        "dists": DeepImageStructureAndTextureSimilarity,
    }
    if name not in metrics:
        raise DataError(f"perceptual distance {name!r} is not one of {', '.join(metrics)}")
    try:
        metric = metrics[name]()
        metric(*torch.zeros(2, 1, 3, 64, 64))  # DISTS loads its network when it is first used
        metric.reset()
        return metric
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise DataError(
            f"{name} wants the ImageNet weights of a network that torchvision could not load "
            f"({error}): put its file into {folder}, or leave {name} out"
        ) from error


@torch.no_grad()
def _distance(metric: Metric, a: Tensor, b: Tensor) -> float:
    if min(a.shape[-2:]) < SMALLEST_SIDE:
        return float("nan")
    first, second = (x.reshape(-1, *x.shape[-3:]).float() / 255 for x in (a, b))
    pairs = zip(first.split(1), second.split(1), strict=True)
    values = [float(metric(one, other)) for one, other in pairs]
    metric.reset()  # it keeps a sum of all it was shown
    return sum(values) / len(values)
