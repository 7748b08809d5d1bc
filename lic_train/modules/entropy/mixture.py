"""Integers under a Gaussian mixture of their own per element, to bytes and back.

A mixture has no table to choose from: every element needs its own distribution. All arithmetic
that decides it is done on integers (means in 1/256, scales on a logarithmic grid, weights in
1/4096, the normal distribution function from one integer table), so that any machine gets the
same numbers. Per element only a window around the likely values is tabulated, as narrow as its
scale allows, plus one escape symbol for the rest; elements of equal window width are coded in one
call. No loop over elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import constriction
import numpy as np
import torch
from torch import Tensor

from lic_train.errors import BitstreamError
from lic_train.modules.entropy.exact import MEANS_PER_UNIT

SCALES_PER_OCTAVE = 16
MIN_SCALE, MAX_SCALE = 0.11, 256.0
WEIGHT_SUM = 1 << 12
MAX_MEAN = 1 << 15
REACH = 5.0  # a window reaches this many standard deviations beyond each component's mean
MAX_HALF_WIDTH = 2048
# What lies outside its window is rare in training and less so on unseen images: one such latent
# under 24 + 24 bits would cost as much as hundreds of others.
ESCAPE_PROBABILITY = 2.0**-12  # at least; costs each element 0.0004 bits
ESCAPE_OCTAVES = 22  # of the distance beyond the window; each is 2^-0.5 as likely as the one before

_NOBODY = (np.empty(0, np.int64),) * 3
# Phi on [-8, 8] in steps of 2^-12, as integers of 2^24: 65,537 entries.
_STEPS_PER_SIGMA = 1 << 12
_LIMIT = 8 * _STEPS_PER_SIGMA
_PHI_ONE = 1 << 24
_ESCAPE = WEIGHT_SUM * _PHI_ONE * ESCAPE_PROBABILITY
_PHI = np.array(
    [
        round(_PHI_ONE * 0.5 * math.erfc(-i / _STEPS_PER_SIGMA / math.sqrt(2)))
        for i in range(-_LIMIT, _LIMIT + 1)
    ],
    dtype=np.int64,
)
_LOWEST = round(math.log2(MIN_SCALE) * SCALES_PER_OCTAVE)
_HIGHEST = round(math.log2(MAX_SCALE) * SCALES_PER_OCTAVE)
_SCALES = 2.0 ** (np.arange(_LOWEST, _HIGHEST + 1) / SCALES_PER_OCTAVE)
_SHIFT = 24
# steps of the Phi table per 1/256 of the latent, in 2^-24
_SLOPES = np.round(_STEPS_PER_SIGMA / (_SCALES * MEANS_PER_UNIT) * (1 << _SHIFT)).astype(np.int64)
_REACHES = np.ceil(REACH * _SCALES * MEANS_PER_UNIT).astype(np.int64)

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_OCTAVE = constriction.stream.model.Categorical(
    2.0 ** (-0.5 * np.arange(ESCAPE_OCTAVES)), perfect=False
)
_UNIFORM = constriction.stream.model.Uniform()


class Mixture(NamedTuple):
    """Integer parameters of ``n`` mixtures of ``K`` components; built by :func:`fixed_point`.

    Attributes:
        means: ``(n, K)``, in 1/256.
        scales: ``(n, K)``, indexes on the logarithmic grid.
        weights: ``(n, K)``, each row sums to ``WEIGHT_SUM``.
    """

    means: np.ndarray
    scales: np.ndarray
    weights: np.ndarray


def fixed_point(weights: np.ndarray, means: np.ndarray, scales: np.ndarray) -> Mixture:
    """Snap float64 parameters, each ``(n, K)``, to the integer grid.

    Args:
        weights: >= 0, rows sum to 1.
        means: in units of the latent; beyond +-32768 they are clipped.
        scales: standard deviations; clipped to [0.11, 256].
    """
    mean_steps = np.rint(np.clip(means, -MAX_MEAN, MAX_MEAN) * MEANS_PER_UNIT).astype(np.int64)
    octaves = np.log2(np.clip(scales, MIN_SCALE, MAX_SCALE)) * SCALES_PER_OCTAVE
    indexes = np.clip(np.rint(octaves).astype(np.int64) - _LOWEST, 0, len(_SCALES) - 1)
    weight_steps = np.rint(weights * WEIGHT_SUM).astype(np.int64)
    # What rounding took or gave goes to the largest component, so that rows sum exactly.
    largest = weight_steps.argmax(axis=1)
    rows = np.arange(len(weight_steps))
    weight_steps[rows, largest] += WEIGHT_SUM - weight_steps.sum(axis=1)
    return Mixture(mean_steps, indexes, weight_steps)


def encode_mixture(symbols: np.ndarray, mixture: Mixture) -> bytes:
    """Code ``symbols``, ``(n,)`` integers less than 2^22 outside their windows.

    Raises:
        ValueError: a symbol is farther than that from its mean.
    """
    coder = constriction.stream.stack.AnsCoder()
    batches, escapes = [], []
    for members, centre, half_width, rows in _windows(mixture):
        offset = symbols[members] - centre + half_width
        escaped = (offset < 0) | (offset > 2 * half_width)
        batches.append((np.where(escaped, 2 * half_width + 1, offset).astype(np.int32), rows))
        beyond = np.where(offset < 0, offset, offset - 2 * half_width)
        escapes.append(beyond[escaped])  # signed distance from the window's edge, never 0
    far = np.concatenate(escapes) if escapes else np.empty(0, np.int64)
    if far.size and np.abs(far).max() >= 1 << ESCAPE_OCTAVES:
        raise ValueError("a latent is too far from its mean to be coded")
    # The coder is a stack: what is coded last comes out first.
    if far.size:
        octaves = (np.frexp(np.abs(far))[1] - 1).astype(np.int32)
        starts = np.int64(1) << octaves
        places = np.abs(far) - starts + np.where(far < 0, starts, 0)
        coder.encode_reverse(places.astype(np.int32), _UNIFORM, (2 * starts).astype(np.int32))
        coder.encode_reverse(octaves, _OCTAVE)
    for window_symbols, rows in reversed(batches):
        coder.encode_reverse(window_symbols, _CATEGORICAL, rows)
    return coder.get_compressed().astype("<u4").tobytes()


def mixture_bits(symbols: np.ndarray, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Bits that each symbol ``(n,)`` costs by its mixture's integers, and which were escapes."""
    bits, escaped = np.empty(len(symbols)), np.empty(len(symbols), dtype=bool)
    octave_bits = 0.5 * np.arange(ESCAPE_OCTAVES)
    octave_bits += np.log2((2.0**-octave_bits).sum())
    for members, centre, half_width, rows in _windows(mixture):
        offset = symbols[members] - centre + half_width
        outside = (offset < 0) | (offset > 2 * half_width)
        place = np.where(outside, 2 * half_width + 1, offset)
        chosen = rows[np.arange(len(rows)), place]
        bits[members] = np.log2(rows.sum(axis=1)) - np.log2(chosen)
        beyond = np.abs(np.where(offset < 0, offset, offset - 2 * half_width))[outside]
        octaves = np.frexp(beyond)[1] - 1
        bits[members[outside]] += octave_bits[octaves] + 1 + octaves  # a side and a place
        escaped[members] = outside
    return bits, escaped


def decode_mixture(chunk: bytes, mixture: Mixture) -> np.ndarray:
    """The ``(n,)`` symbols, int64, that :func:`encode_mixture` coded with the same ``mixture``.

    Raises:
        BitstreamError: the chunk cannot be one of this coder.
    """
    if len(chunk) % 4 or chunk[-4:] == bytes(4):
        raise BitstreamError("a chunk of the stream is malformed")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(chunk, "<u4").astype(np.uint32))
    symbols = np.empty(len(mixture.means), dtype=np.int64)
    escapes = []
    for members, centre, half_width, rows in _windows(mixture):
        offset = coder.decode(_CATEGORICAL, rows)
        symbols[members] = centre + offset - half_width
        escaped = offset == 2 * half_width + 1
        escapes.append((members[escaped], centre[escaped], np.full(escaped.sum(), half_width)))
    who, centres, edges = map(np.concatenate, zip(_NOBODY, *escapes, strict=True))
    if who.size:
        octaves = coder.decode(_OCTAVE, who.size).astype(np.int64)
        starts = np.int64(1) << octaves
        places = coder.decode(_UNIFORM, (2 * starts).astype(np.int32)).astype(np.int64)
        below = places >= starts
        distance = places % starts + starts
        symbols[who] = centres + np.where(below, -edges - distance, edges + distance)
    return symbols


def escape_likelihood(beyond: Tensor) -> Tensor:
    """Probability of one latent ``beyond`` >= 0 steps outside its window, as the coder has it but
    without the jumps between octaves."""
    first = ESCAPE_PROBABILITY * (1 - 2**-0.5) / 2
    return first * (1 + beyond) ** -1.5


def as_coded(
    likelihood: Tensor, y_hat: Tensor, scales: Tensor, means: Tensor, weights: Tensor
) -> Tensor:
    """``likelihood`` of integers y_hat, but the coder's where that is another: no less than a
    window's least entry, and an escape outside it.

    Args:
        likelihood, y_hat: any shape, of one element each.
        scales, means, weights: the same shape after a first dimension of K components.
    """
    far = 1e12
    reach = REACH * scales.clamp(MIN_SCALE, MAX_SCALE)
    absent = weights < 0.5 / WEIGHT_SUM
    lowest = (means - reach).masked_fill(absent, far).amin(dim=0)
    highest = (means + reach).masked_fill(absent, -far).amax(dim=0)
    octaves = torch.log2((highest - lowest) / 2).ceil().clamp(0, math.log2(MAX_HALF_WIDTH))
    half_width = torch.exp2(octaves)
    beyond = (y_hat - torch.round((lowest + highest) / 2)).abs() - half_width
    octave = torch.log2(beyond.clamp(min=1)).floor().clamp(max=ESCAPE_OCTAVES - 1)
    ratio = 2**-0.5
    first = (1 - ratio) / (1 - ratio**ESCAPE_OCTAVES)
    # The octave, then a side of the window and a place in the octave.
    escape = ESCAPE_PROBABILITY * first * torch.exp2(-1.5 * octave - 1)
    least = ESCAPE_PROBABILITY / (2 * half_width)
    return torch.where(beyond > 0, escape, torch.maximum(likelihood, least))


def probabilities(mixture: Mixture, centre: np.ndarray, half_width: int) -> np.ndarray:
    """Probability of ``centre - half_width ... centre + half_width`` and, last, of all others.

    Returns:
        ``(n, 2 * half_width + 2)`` float64 holding integers that sum to
        ``WEIGHT_SUM * 2^24`` in every row: exact, so every machine has the same.
    """
    total = WEIGHT_SUM * _PHI_ONE
    edges = np.arange(-half_width, half_width + 2) * MEANS_PER_UNIT - MEANS_PER_UNIT // 2
    cdf = np.zeros((len(centre), len(edges)), dtype=np.int64)
    for k in range(mixture.means.shape[1]):
        start = centre * MEANS_PER_UNIT - mixture.means[:, k]
        steps = (start[:, None] + edges) * _SLOPES[mixture.scales[:, k]][:, None] >> _SHIFT
        np.clip(steps, -_LIMIT, _LIMIT, out=steps)
        steps += _LIMIT
        cdf += _PHI[steps] * mixture.weights[:, k, None]
    rows = np.empty((len(centre), len(edges)), dtype=np.float64)
    np.subtract(cdf[:, 1:], cdf[:, :-1], out=rows[:, :-1], casting="unsafe")
    rows[:, -1] = total - (cdf[:, -1] - cdf[:, 0])
    return rows


def _windows(mixture: Mixture) -> Iterator[tuple[np.ndarray, np.ndarray, int, np.ndarray]]:
    """Elements by window width: their numbers, window centres, half width, probabilities."""
    present = mixture.weights > 0
    reach = _REACHES[mixture.scales]
    far = np.int64(1) << 40
    lowest = np.where(present, mixture.means - reach, far).min(axis=1)
    highest = np.where(present, mixture.means + reach, -far).max(axis=1)
    centre = (lowest + highest) // 2 + MEANS_PER_UNIT // 2 >> MEANS_PER_UNIT.bit_length() - 1
    needed = -(-(highest - lowest) // (2 * MEANS_PER_UNIT))
    half_width = 1
    while True:
        narrower = 0 if half_width == 1 else half_width // 2
        last = half_width >= MAX_HALF_WIDTH
        (members,) = np.nonzero((needed > narrower) & (last | (needed <= half_width)))
        # A limited number at a time, so that memory does not grow with the image.
        for part in np.array_split(members, -(-members.size * half_width // (1 << 20)) or 1):
            if part.size:
                chosen = Mixture(*(values[part] for values in mixture))
                rows = probabilities(chosen, centre[part], half_width)
                np.maximum(rows[:, -1], _ESCAPE, out=rows[:, -1])
                np.maximum(rows, _ESCAPE / (2 * half_width), out=rows)  # its underflown rest
                yield part, centre[part], half_width, rows
        if last:
            return
        half_width *= 2
