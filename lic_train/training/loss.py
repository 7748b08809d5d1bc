"""One loss prices every codec: rate plus lambda times distortion, summed over reconstructions."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from lic_train.codec import Reconstruction
from lic_train.codec.contract import bits
from lic_train.codec.signal import MS_SSIM_MIN_SIDE, num_pixels
from lic_train.errors import TrainingError

Metric = Literal["mse", "ms_ssim", "l1", "l2"]


class Lagrangian(NamedTuple):
    """What the loss is made of; scalars, float32.

    Attributes:
        loss: ``sum_i w_i (R_i + lambda_i D_i)``.
        bpp: ``sum_i R_i`` over all reconstructions, estimated bits per pixel, unweighted.
        distortion: weighted mean of D.
        terms: per reconstruction ``(bpp, distortion)``, under its name.
    """

    loss: Tensor
    bpp: Tensor
    distortion: Tensor
    terms: dict[str, tuple[Tensor, Tensor]]


class RateDistortionLoss(nn.Module):
    """``L = sum_i w_i (R_i + lambda_i D_i)``.

    ``R_i = -sum log2 p / pixels(target_i)`` in bits per pixel. ``D_i`` is ``255^2 MSE`` ("mse"),
    ``1 - MS-SSIM`` ("ms_ssim"), ``255 L1`` ("l1") or ``MSE`` on [0, 1] ("l2").
    The lambdas of CompressAI's zoo go with "mse" and "ms_ssim" as they are.

    Args:
        lmbda: trade-off, > 0 and finite; larger means more bits and less distortion.
        metric: the distortion.

    Raises:
        TrainingError: MS-SSIM on crops whose shorter side is below 161 pixels.
    """

    def __init__(self, lmbda: float, metric: Metric = "mse") -> None:
        super().__init__()
        if not 0 < lmbda < math.inf:  # nan is refused too
            raise ValueError(f"lmbda is {lmbda}, it must be above 0 and finite")
        if metric not in _DISTORTIONS:
            raise ValueError(f"metric is {metric!r}, not one of {', '.join(_DISTORTIONS)}")
        self.lmbda = lmbda
        self.metric = metric

    def forward(self, reconstructions: list[Reconstruction]) -> Lagrangian:
        device = reconstructions[0].target.device.type
        with torch.autocast(device, enabled=False):  # MS-SSIM's variances are nonsense in bf16
            return self._lagrangian(reconstructions)

    def _lagrangian(self, reconstructions: list[Reconstruction]) -> Lagrangian:
        terms: dict[str, tuple[Tensor, Tensor]] = {}
        losses, rates, distortions, weights = [], [], [], 0.0
        for r in reconstructions:
            pixels = num_pixels(r.target)
            zero = r.target.new_zeros((), dtype=torch.float32)
            rate = sum((bits(p) for p in r.likelihoods.values()), start=zero) / pixels
            distortion, weighed = self._distortion(r)
            terms[r.name] = rate, distortion
            rates.append(rate)
            if r.weight:
                losses.append(r.weight * (rate + weighed))
                distortions.append(r.weight * distortion)
                weights += r.weight
        if not losses:
            raise TrainingError("the codec gave no reconstruction with a weight above 0")
        return Lagrangian(
            torch.stack(losses).sum(),
            torch.stack(rates).sum(),
            torch.stack(distortions).sum() / weights,
            terms,
        )

    def _distortion(self, r: Reconstruction) -> tuple[Tensor, Tensor]:
        """The mean over the images of D, and that of lambda * D."""
        distort = _DISTORTIONS[self.metric]
        x_hat, target = r.x_hat.float(), r.target.float()
        if isinstance(r.lmbda, Tensor):
            pairs = zip(x_hat.split(1), target.split(1), strict=True)
            each = torch.stack([distort(*pair) for pair in pairs])
            return each.mean(), (r.lmbda * each).mean()
        distortion = distort(x_hat, target)
        return distortion, (self.lmbda if r.lmbda is None else r.lmbda) * distortion


def _mse(x_hat: Tensor, target: Tensor) -> Tensor:
    return 255**2 * (x_hat - target).square().mean()


def _ms_ssim(x_hat: Tensor, target: Tensor) -> Tensor:
    if min(target.shape[-2:]) < MS_SSIM_MIN_SIDE:
        raise TrainingError(
            f"MS-SSIM needs crops of at least {MS_SSIM_MIN_SIDE} pixels a side, these are "
            f"{min(target.shape[-2:])}: set data.crop_size=192 or larger "
            "(evaluation images need as much)"
        )
    return 1 - ms_ssim(x_hat, target, data_range=1.0)


def _l1(x_hat: Tensor, target: Tensor) -> Tensor:
    return 255 * (x_hat - target).abs().mean()


def _l2(x_hat: Tensor, target: Tensor) -> Tensor:
    return (x_hat - target).square().mean()


_DISTORTIONS = {"mse": _mse, "ms_ssim": _ms_ssim, "l1": _l1, "l2": _l2}
