"""An invertible multi-scale transform that starts as an orthonormal wavelet and then learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Orthonormal: grey, red against blue, green against both. Roots are taken where the type is known.
_COLOURS = ((1, 1, 1), (1, 0, -1), (1, -2, 1))


def haar(x: Tensor) -> Tensor:
    """Squeeze 2x2: ``(N, C, h, w)`` to ``(N, 4C, h/2, w/2)``, orthonormal.

    The first C channels are sums, then horizontal, vertical and diagonal differences.
    """
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return torch.cat((a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d), dim=1) / 2


def unhaar(y: Tensor) -> Tensor:
    """The inverse of :func:`haar`."""
    s, h, v, d = y.chunk(4, dim=1)
    pixels = (s + h + v + d, s - h + v - d, s + h - v - d, s - h - v + d)
    return F.pixel_shuffle(torch.stack(pixels, dim=2).flatten(1, 2), 2) / 2


def opponent(x: Tensor, inverse: bool = False) -> Tensor:
    """RGB ``(N, 3, h, w)`` to grey and two colour differences, orthonormal; or back."""
    matrix = torch.tensor(_COLOURS, dtype=x.dtype, device=x.device)
    return _mix(F.normalize(matrix), x, inverse)


def _mix(matrix: Tensor, x: Tensor, inverse: bool) -> Tensor:
    """An orthogonal matrix, or its inverse, over the channels; never in bf16."""
    matrix = (matrix.T if inverse else matrix)[..., None, None]
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, matrix.to(x.dtype))


class ActNorm(nn.Module):
    """``y = exp(log_gain) (x + bias)`` per channel.

    The first batch in training sets the bias to centre the channels; ``initialised`` says so in
    every checkpoint. The gain starts at 1, not at one over the deviation as in Glow: of a
    transform without gain the quantiser's step is the error in the image.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_gain = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.initialised:
            with torch.no_grad():
                self.bias.copy_(-x.mean(dim=(0, 2, 3))[:, None, None])
                self.initialised.fill_(True)
        return (x + self.bias) * self.log_gain.tanh().exp()

    def inverse(self, y: Tensor) -> Tensor:
        return y * (-self.log_gain.tanh()).exp() - self.bias


class Rotation(nn.Module):
    """Invertible 1x1 convolution whose matrix stays orthogonal: ``exp(A - A^T)``, first identity.

    Its inverse is its transpose, so nothing is solved for and nothing can become singular. The
    matrix is computed in float64, exact enough for either precision of the signal.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.generator = nn.Parameter(torch.zeros(channels, channels))

    def forward(self, x: Tensor, inverse: bool = False) -> Tensor:
        generator = self.generator.double()
        return _mix(torch.matrix_exp(generator - generator.T), x, inverse)

    def inverse(self, y: Tensor) -> Tensor:
        return self(y, inverse=True)


class Coupling(nn.Module):
    """One half of the channels scales and shifts the other: ``y_b = exp(s(x_a)) x_b + t(x_a)``.

    ``|s| < 1``, so that no step can explode; the net's last layer starts at zero.

    Args:
        channels: even.
        width: of the net.
        swap: whether the second half decides over the first.
    """

    def __init__(self, channels: int, width: int, swap: bool) -> None:
        super().__init__()
        self.swap = swap
        self.net = nn.Sequential(
            nn.Conv2d(channels // 2, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1), nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip
        zero_last(self.net)

    def forward(self, x: Tensor, inverse: bool = False) -> Tensor:
        a, b = x.chunk(2, dim=1)
        if self.swap:
            a, b = b, a
        s, t = self.net(a).to(x.dtype).chunk(2, dim=1)
        b = (b - t) * (-s.tanh()).exp() if inverse else b * s.tanh().exp() + t
        return torch.cat((b, a) if self.swap else (a, b), dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        return self(y, inverse=True)


class Level(nn.Module):
    """Squeeze 2x2, then ``depth`` times actnorm, rotation, coupling.

    Args:
        channels: of the input; the output has four times as many.
        depth: number of steps.
        width: of their nets.
    """

    def __init__(self, channels: int, depth: int, width: int) -> None:
        super().__init__()
        squeezed = 4 * channels
        self.steps = nn.ModuleList()
        for k in range(depth):
            self.steps.append(ActNorm(squeezed))
            self.steps.append(Rotation(squeezed))
            self.steps.append(Coupling(squeezed, width, swap=k % 2 == 1))

    def forward(self, x: Tensor) -> Tensor:
        y = haar(x)
        for step in self.steps:
            y = step(y)
        return y

    def inverse(self, y: Tensor) -> Tensor:
        for step in reversed(self.steps):
            y = step.inverse(y)  # type: ignore[operator]
        return unhaar(y)


class Bijection(nn.Module):
    """``x -> [top, details of the deepest level, ..., details of the first]``; as many numbers.

    Every level passes a quarter of its channels on, at first its sums, and factors out the rest.

    Args:
        levels: how many; sides of x are multiples of ``2 ** levels``.
        depth, width: of each, see :class:`Level`.
    """

    def __init__(self, levels: int, depth: int, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(3, depth, width) for _ in range(levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``x`` ``(N, 3, H, W)`` in [0, 1] to the latents, coarse to fine."""
        h = opponent(x - 0.5)
        factored_out = []
        for level in self.levels:
            h, details = level(h).tensor_split((3,), dim=1)
            factored_out.append(details)
        return [h, *reversed(factored_out)]

    def inverse(self, latents: list[Tensor]) -> Tensor:
        """The image of all latents, coarse to fine."""
        h, *details = latents
        for level, z in zip(reversed(self.levels), details, strict=True):
            assert isinstance(level, Level)
            h = level.inverse(torch.cat((h, z), dim=1))
        return self.image(h)

    @staticmethod
    def image(h: Tensor) -> Tensor:
        """What the first level's inverse gives, ``(N, 3, H, W)``, to RGB, unclamped."""
        return opponent(h, inverse=True) + 0.5


def zero_last(net: nn.Sequential) -> None:
    """Start the last layer at zero, so that the net begins by saying nothing."""
    last = net[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
