"""Autoregressive latents, a whole diagonal at a time.

A masked 5x5 context (type A, raster order) makes position (h, w) depend on two to its left and on
columns w-2 ... w+2 of the two rows above. With t = w + 3h all of these have a smaller t, so every
position of one t can be computed together: W + 3(H-1) steps instead of H*W (141 instead of 1536
for a 768x512 image), each a matrix product. Contexts and parameters are those of the serial order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

Where = Tensor | tuple[Tensor, Tensor]
"""Latents of a step in ``(h * w, M)``: positions ``(n,)`` with all their channels, or positions
``(n, 1)`` with some channels ``(m,)``."""
CodeStep = Callable[[Where, Tensor, Tensor], Tensor]
"""``(where, scales (n, m), means (n, m)) -> y_hat (n, m)``: the coder's part of a step."""


def diagonals(height: int, width: int, radius: int = 2) -> Iterator[Tensor]:
    """Raster positions (int64) of every step, t = w + (radius + 1) h rising, then h rising."""
    slope = radius + 1
    for t in range(width + slope * (height - 1)):
        first = max(0, -(-(t - width + 1) // slope))
        rows = torch.arange(first, min(height - 1, t // slope) + 1)
        yield rows * width + (t - slope * rows)


@torch.no_grad()
def wavefront(
    context: MaskedConv2d,
    parameters: nn.Sequential,
    hyper: Tensor | None,
    size: tuple[int, int],
    code: CodeStep,
) -> Tensor:
    """Run context model, entropy parameters and ``code`` over all steps, in float64.

    Encoder and decoder both call this, so that they do the same arithmetic in the same shapes.

    Args:
        context: masked convolution, M -> 2M channels.
        parameters: 1x1 convolutions and activations, (hyper, context) -> (scales, means).
        hyper: hyper features ``(1, C, h, w)``, or None for a context-only prior.
        size: ``(h, w)`` of the latents.
        code: gives y_hat of a step from its scales and (not yet snapped) means.

    Returns:
        y_hat in raster order, ``(h * w, M)``, float64.
    """
    height, width = size
    radius = context.kernel_size[0] // 2
    layers = [_as_rows(layer) for layer in parameters]
    first_weight: Any = layers[0].weight
    first_bias: Any = layers[0].bias
    # The hyper features are all known, so their share of the first layer is one product.
    if hyper is None:
        ready = first_bias.expand(height * width, -1)
    else:
        rows = hyper.double().flatten(2)[0].T
        ready = F.linear(rows, first_weight[:, : rows.shape[1]], first_bias)
        first_weight = first_weight[:, rows.shape[1] :]

    taps = [
        (row, column)
        for row in range(radius + 1)
        for column in range(2 * radius + 1)
        if (row, column) < (radius, radius)
    ]
    kernel = (context.weight * context.mask).double()
    kernel = torch.cat([kernel[:, :, row, column] for row, column in taps], dim=1)
    bias = context.bias.double() if context.bias is not None else None
    padded_width = width + 2 * radius
    offsets = torch.tensor([row * padded_width + column for row, column in taps])
    centre = radius * padded_width + radius
    channels = context.in_channels
    y_hat = kernel.new_zeros((height + radius) * padded_width, channels)

    for positions in diagonals(height, width, radius):
        corner = positions // width * padded_width + positions % width
        corner, where = corner.to(y_hat.device), positions.to(y_hat.device)
        window = y_hat[corner[:, None] + offsets.to(corner)].flatten(1)
        features = F.linear(F.linear(window, kernel, bias), first_weight) + ready[where]
        for layer in layers[1:]:
            features = layer(features)
        scales, means = features.chunk(2, dim=1)
        y_hat[corner + centre] = code(where, scales, means)

    grid = y_hat.reshape(height + radius, padded_width, channels)
    return grid[radius:, radius : radius + width].reshape(height * width, channels)


def _as_rows(layer: nn.Module) -> nn.Module:
    """A 1x1 convolution as the float64 matrix product it is; activations as they are."""
    if not isinstance(layer, nn.Conv2d):
        return layer
    linear = nn.Linear(layer.in_channels, layer.out_channels, device="meta")
    linear.weight = nn.Parameter(layer.weight.detach().double().flatten(1), requires_grad=False)
    bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_channels)
    linear.bias = nn.Parameter(bias.detach().double(), requires_grad=False)
    return linear
