"""The rate gap is what a file is longer than its likelihoods promise, split by cause to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lic_train.codec.bitstream import Bitstream
from lic_train.modules.entropy.accounts import Entry

TAIL = 16.0
"""Bits of the smallest probability that a table holds; a likelihood beyond them is smaller."""
CAUSES = ("header", "checks", "coder", "tables", "tails")


@dataclass(frozen=True)
class RateGap:
    """The rate gap of one file, in bits.

    ``8 * bytes == estimated + header + checks + coder + tables + tails``. The fields, in this
    order, are the columns of ``rate_gap.csv``.
    """

    dataset: str
    image: str
    codec: str
    rate: int
    lmbda: float | None
    bytes: int
    """Length of the file, in bytes."""
    estimated: float
    """``-sum log2 p`` of all latents, from the codec's own estimate."""
    header: float
    """The file's own parts: magic, fingerprint, shape, lengths of chunks, checksum."""
    checks: float
    """What the codec adds to its chunks besides coded symbols: checksums of latents, sizes."""
    coder: float
    """Bits written beyond those of the tables.

    They are the coder's final state and padding to whole bytes and words, and the whole gap of a
    codec that keeps no accounts.
    """
    tables: float
    """The gap of all other symbols, due to rounded scales, means and probabilities.

    It also holds the difference between exact networks and those of the loss.
    """
    tails: float
    """The gap of symbols outside their tables (escapes) or beyond ``TAIL`` bits.

    The latter are less likely than any entry of a table. It is negative where the likelihoods, down
    to 1e-9, price them higher than the coder's floor does: such files are shorter than the loss
    predicts.
    """

    @property
    def percent(self) -> float:
        """The gap in percent of the estimate; NaN if the estimate is 0."""
        return 100 * (8 * self.bytes / self.estimated - 1) if self.estimated else float("nan")


def rate_gap(
    stream: Bitstream,
    estimated: float,
    entries: Sequence[Callable[[], Entry]],
    *,
    dataset: str,
    image: str,
    codec: str,
    rate: int,
    lmbda: float | None,
) -> RateGap:
    """Split the gap of a file by cause.

    Args:
        stream: the file.
        estimated: bits, from the codec's estimate.
        entries: the accounts that were kept while it was compressed; may be empty.
        dataset, image, codec, rate, lmbda: what the row says.
    """
    size = len(stream.to_bytes())
    chunks = 8 * sum(map(len, stream.chunks))
    accounts = [entry() for entry in entries]
    # A codec without accounts is one whose bits are all written by one coder.
    written = 8 * sum(a.bytes for a in accounts) if accounts else chunks
    ideal = sum(float(a.bits.sum()) for a in accounts) if accounts else estimated
    far = [a.escaped | (a.estimated > TAIL) for a in accounts]
    tail_bits = sum(float(a.bits[f].sum()) for a, f in zip(accounts, far, strict=True))
    tail_estimate = sum(float(a.estimated[f].sum()) for a, f in zip(accounts, far, strict=True))
    return RateGap(
        dataset=dataset,
        image=image,
        codec=codec,
        rate=rate,
        lmbda=lmbda,
        bytes=size,
        estimated=estimated,
        header=float(8 * size - chunks),
        checks=float(chunks - written),
        coder=written - ideal,
        tables=(ideal - tail_bits) - (estimated - tail_estimate),
        tails=tail_bits - tail_estimate,
    )


def describe(gaps: Sequence[RateGap]) -> str:
    """Return one line on the gap of all files and its parts, in percent of the estimate."""
    estimated = sum(gap.estimated for gap in gaps)
    if not estimated:
        return "rate gap: nothing was estimated"
    shares = {c: 100 * float(np.sum([getattr(g, c) for g in gaps])) / estimated for c in CAUSES}
    parts = ", ".join(f"{cause} {share:+.2f}" for cause, share in shares.items())
    return f"files are {sum(shares.values()):+.2f} % of the estimated bits longer: {parts}"
