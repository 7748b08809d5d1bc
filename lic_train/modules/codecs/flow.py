"""A normalizing flow as the transform: only the quantiser loses anything."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape, bits
from lic_train.errors import BitstreamError, LicError, ModelError
from lic_train.modules.entropy.logistic import LogisticConditional, LogisticDecoder, LogisticEncoder
from lic_train.modules.entropy.symbols import Tables, seal, unseal, verify
from lic_train.modules.layers.coupling import Bijection, Level
from lic_train.modules.layers.padding import ceil_div, crop_to, pad_to_multiple
from lic_train.modules.layers.prior import ConditionalPrior, FixedPrior

PIXEL = 1 / 255
"""One step of an 8-bit pixel, in units of x and, as the transform has no gain, of the latents."""
MEANS_PER_STEP = 16
"""Means are multiples of 1/16 of the step: coarse enough for every machine to find the same one."""
STEP_BYTES = 4
SLICES = 3
"""Groups in which the details of a level are coded, each given those before it."""

CodeBand = Callable[[Tensor, Tensor], Tensor]
"""(log2 scale, mean) of the next latents, in steps, to the decoded latents, in steps."""


class Flow(Codec):
    """Helminger, Djelouah, Gross, Schroers 2020, "Lossy Image Compression with Normalizing Flows"
    (arXiv 2008.10486).

    ::

        x -> f -> top, z_L, ..., z_1            as many numbers as x has
        top -> Q -> top_hat -> prior -> z_L -> Q -> z_L_hat -> f_L^-1 -> h_hat -> prior -> z_(L-1)
        ... -> h_hat, z_1_hat -> f_1^-1 -> x_hat

    f is a bijection: squeeze, (actnorm, rotation, affine coupling) x K, factor out, L times. So
    quantisation is the only loss, and one set of weights serves every rate by the quantiser's
    step, which the file holds. Latents are coded from the deepest level up, each under a logistic
    density whose mean and scale come from what is decoded already; no context within a level but
    for three groups of channels. Coding a decoded image again at the same step finds the same
    latents: nothing is lost twice.

    The paper does not publish, as far as known, its levels, steps and widths, its priors, its
    schedule of steps and lambdas, its training data or any figure of a curve; all of these are
    chosen here. Squeezing is a Haar transform and the rest starts as the identity, so f begins as
    an orthonormal wavelet: three quarters of the channels are factored out, not half, and actnorm
    and the 1x1 convolution keep that gain of 1 at the start. Training draws one step per batch,
    log-uniformly, and ties lambda to it; without gain the loss needs no log-determinant. Not
    reproduced: the likelihood term, dither, the denoiser behind f^-1, leaving out levels.

    Args:
        N: channels of the coupling nets.
        M: channels of the nets of the priors.
        levels: L; images are padded to multiples of ``2 ** levels``.
        depth: K, coupling steps per level.
        num_rates: operating points.
        coarsest, finest: their first and last step, in 8-bit pixel steps; between them steps are
            geometric. Any other step can be coded by :meth:`encode_at`.
        tie: ``lambda * step^2``, step in pixel steps; 18 / ln 2 = 26 is what theory gives for high
            rates.
    """

    real_rates = True
    own_lmbda = True

    def __init__(
        self,
        N: int = 128,
        M: int = 64,
        levels: int = 4,
        depth: int = 8,
        num_rates: int = 9,
        coarsest: float = 128,
        finest: float = 0.5,
        tie: float = 26,
    ) -> None:
        super().__init__()
        if not (num_rates > 1 and 0 < finest < coarsest < math.inf):
            raise ValueError("num_rates must be above 1 and 0 < finest < coarsest")
        self.num_rates, self.coarsest, self.finest, self.tie = num_rates, coarsest, finest, tie
        self.stride = 2**levels
        self.f = Bijection(levels, depth, N)
        self.top_prior = FixedPrior(3, 0.1 * 2**levels)
        self.priors = nn.ModuleList(
            nn.ModuleList(
                ConditionalPrior(3 * i, 9 // SLICES, M, typical=0.01 * 2**level)
                for i in range(SLICES)
            )
            for level in range(levels, 0, -1)
        )
        self.logistic = LogisticConditional()

    # --- steps and rates
    def step_of(self, rate: float) -> float:
        """The step, in pixel steps, of a rate; geometric between operating points."""
        step = self.coarsest * (self.finest / self.coarsest) ** (rate / (self.num_rates - 1))
        return float(np.float32(step))

    def rate_of(self, step: float) -> float:
        """The inverse of :meth:`step_of`."""
        octaves = math.log(self.coarsest / step) / math.log(self.coarsest / self.finest)
        return octaves * (self.num_rates - 1)

    # --- training and evaluation
    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.training:
            step = self.step_of((self.num_rates - 1) * torch.rand(()).item())
            x_hat, likelihoods = self._noisy(x, step * PIXEL)
            return [Reconstruction(x_hat, x, likelihoods, lmbda=self.tie / step**2)]
        reconstructions = []
        for rate in range(self.num_rates):
            step = self.step_of(rate)
            coded = [self._rounded(signal, step) for signal in x.split(1)]
            x_hat = torch.cat([image for image, _ in coded])
            p = {"latents": torch.cat([of_image for _, of_image in coded])}
            share, lmbda = 1 / self.num_rates, self.tie / step**2
            reconstructions.append(Reconstruction(x_hat, x, p, f"rate{rate}", share, lmbda))
        return reconstructions

    def walk(self, shape: Shape, step: float, code: CodeBand) -> Tensor:
        """Decode level by level; training, evaluation and either side of coding differ in ``code``.

        Args:
            shape: of the top, ``(N, 3, h, w)``.
            step: in units of the latents.
            code: called with the parameters of the top, then of every group of every level.

        Returns:
            x_hat ``(N, 3, h * stride, w * stride)``, unclamped.
        """
        h = code(*self.top_prior(shape, step)) * step
        for priors, level in zip(self.priors, reversed(self.f.levels), strict=True):
            assert isinstance(priors, nn.ModuleList) and isinstance(level, Level)
            details: list[Tensor] = []
            for prior in priors:
                details.append(code(*prior(h, details, step)) * step)
            h = level.inverse(torch.cat((h, *details), dim=1))
        return self.f.image(h)

    def _noisy(self, x: Tensor, step: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Rates of latents with noise, images and priors of rounded ones (straight through)."""
        latents = self.f(pad_to_multiple(x, self.stride))
        groups = _groups(latents)
        likelihoods: dict[str, Tensor] = {}

        def code(log_scale: Tensor, mean: Tensor) -> Tensor:
            v = next(groups) / step
            noisy = v + torch.rand_like(v) - 0.5
            likelihoods[f"z{len(likelihoods)}"] = self.logistic.likelihood(noisy - mean, log_scale)
            return v + (torch.round(v - mean) + mean - v).detach()

        x_hat = self.walk(tuple(latents[0].shape), step, code)
        return crop_to(x_hat, *x.shape[-2:]), likelihoods

    def _rounded(self, x: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """What a file of one image and this step, in pixel steps, decodes to, and the likelihoods
        of all its latents, ``(1, n)``."""
        pieces: list[Tensor] = []

        def see(symbols: Tensor, log_scale: Tensor, decoded: Tensor) -> None:
            pieces.append(self.logistic.likelihood(symbols, log_scale).flatten(1))

        x_hat = self._quantise(x, step, see)
        return x_hat, torch.cat(pieces, dim=1)

    @torch.no_grad()
    def estimate(self, x: Tensor, rate: float = -1) -> float:
        """Estimated bits of the batch at this rate alone: rates do not build on each other."""
        step = self.step_of(rate % self.num_rates if rate < 0 else rate)
        return sum(bits(self._rounded(signal, step)[1]).item() for signal in x.split(1))

    # --- coding
    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        return self.encode_at(x, self.step_of(rate))

    def encode_at(self, x: Tensor, step: float) -> list[bytes]:
        """Code one image with any step, in pixel steps, also one beyond the operating points.

        Raises:
            ModelError: the step is not above 0 and finite, or so small that latents are too many
                steps from their means.
        """
        head = np.array(step).astype("<f4").tobytes()
        encoder = LogisticEncoder()
        checks: list[np.ndarray] = []

        def see(symbols: Tensor, log_scale: Tensor, decoded: Tensor) -> None:
            encoder.add(_integers(symbols), log_scale)
            checks.append(_integers(decoded * MEANS_PER_STEP))

        self._quantise(x, _step(head, ModelError), see)
        chunk, low_bits = encoder.finish(Tables(self.logistic), self.logistic.likelihood)
        return [head + seal(chunk, _checked(head, checks)), low_bits]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(chunks) != 2 or len(shape) != 4 or shape[1] != 3:
            raise BitstreamError("the stream does not hold what this codec writes")
        chunk, checksum = unseal(chunks[0])
        head, chunk = chunk[:STEP_BYTES], chunk[STEP_BYTES:]
        step = _step(head, BitstreamError)
        top = (1, 3, *(ceil_div(side, self.stride) for side in shape[-2:]))
        count = math.prod(top) * self.stride**2
        decoder = LogisticDecoder(chunk, chunks[1], Tables(self.logistic), count)
        checks: list[np.ndarray] = []

        def code(log_scale: Tensor, mean: Tensor) -> Tensor:
            mean = _snap(mean)
            symbols = torch.from_numpy(decoder.next(log_scale)).to(mean).reshape(mean.shape)
            checks.append(_integers((symbols + mean) * MEANS_PER_STEP))
            return symbols + mean

        x_hat = self._walk_exactly(top, step, code)
        decoder.finish()
        verify(_checked(head, checks), checksum)
        return crop_to(x_hat, *shape[-2:])

    @torch.no_grad()
    def _quantise(self, x: Tensor, step: float, see: Callable[..., None]) -> Tensor:
        """Round the latents of one image on the decoder's way to them, and return what it decodes.

        ``see`` gets the symbols, their log2 scales and the decoded latents, all in steps.
        """
        with torch.autocast(x.device.type, enabled=False):
            f = copy.deepcopy(self.f).double()
            latents = f(pad_to_multiple(x.double().contiguous(), self.stride))
        groups = _groups(latents)

        def code(log_scale: Tensor, mean: Tensor) -> Tensor:
            mean = _snap(mean)
            symbols = torch.round(next(groups) / (step * PIXEL) - mean)
            see(symbols, log_scale, symbols + mean)
            return symbols + mean

        x_hat = self._walk_exactly(tuple(latents[0].shape), step, code)
        return crop_to(x_hat, *x.shape[-2:])

    @torch.no_grad()
    def _walk_exactly(self, top: Shape, step: float, code: CodeBand) -> Tensor:
        """The walk in float64, so that encoder and decoder find the same; the image in float32."""
        with torch.autocast(self.top_prior.mean.device.type, enabled=False):
            exact = copy.deepcopy(self).double()
            return exact.walk(top, step * PIXEL, code).float()


def _groups(latents: list[Tensor]) -> Iterator[Tensor]:
    """The latents in coding order: the top, then the groups of every level."""
    yield latents[0]
    for details in latents[1:]:
        yield from details.chunk(SLICES, dim=1)


def _snap(means: Tensor) -> Tensor:
    return torch.round(means * MEANS_PER_STEP) / MEANS_PER_STEP


def _integers(values: Tensor) -> np.ndarray:
    return torch.round(values).flatten().long().cpu().numpy()


def _step(head: bytes, error: type[LicError]) -> float:
    """The step, in pixel steps, that the first bytes of a chunk hold."""
    step = float(np.frombuffer(head, "<f4")[0]) if len(head) == STEP_BYTES else 0.0
    if not 0 < step < math.inf:
        raise error(f"the quantiser's step is {step:g}, it must be above 0 and finite")
    return step


def _checked(head: bytes, checks: list[np.ndarray]) -> np.ndarray:
    """What the checksum is of: the step, and the decoded latents in whole steps of their means."""
    return np.concatenate([np.frombuffer(head, "<i4"), *checks])
