"""The rate gap: what a file is longer than its likelihoods promise, split by cause to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lic_train.codec.bitstream import Bitstream
from lic_train.modules.entropy.accounts import Entry

TAIL = 16.0
"""Bits beyond which a likelihood is less than the smallest probability that a table holds."""
CAUSES = ("header", "checks", "coder", "tables", "tails")


@dataclass(frozen=True)
class RateGap:
    """One file; all in bits. ``8 * bytes == estimated + header + checks + coder + tables + tails``.

    The fields, in this order, are the columns of ``rate_gap.csv``.
    """

    dataset: str
    image: str
    codec: str
    rate: int
    lmbda: float | None
    bytes: int
    """Length of the file."""
    estimated: float
    """``-sum log2 p`` of all latents, from the codec's own estimate."""
    header: float
    """The file's own: magic, fingerprint, shape, lengths of chunks, checksum."""
    checks: float
    """What the codec adds to its chunks beside coded symbols: checksums of latents, sizes."""
    coder: float
    """Bits written beyond those of the tables: the coder's last state, filling up to whole bytes
    and words, and all the gap of a codec that keeps no accounts."""
    tables: float
    """All other symbols: rounded scales, means and probabilities instead of exact ones, and exact
    networks instead of the loss's."""
    tails: float
    """Symbols outside their tables (escapes), and those less likely than any entry of a table,
    ``TAIL`` bits; negative where the likelihoods, down to 1e-9, price them higher than the coder's
    floor does: then the files are shorter than the loss believed."""

    @property
    def percent(self) -> float:
        """The gap in percent of the estimate; NaN of an estimate of 0."""
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
    """Split the gap of a file.

    Args:
        stream: the file.
        estimated: bits, from the codec.
        entries: the accounts kept while it was compressed.
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
    """One line: the gap of all these files together, and its parts, in percent of the estimate."""
    estimated = sum(gap.estimated for gap in gaps)
    if not estimated:
        return "rate gap: nothing was estimated"
    shares = {c: 100 * float(np.sum([getattr(g, c) for g in gaps])) / estimated for c in CAUSES}
    parts = ", ".join(f"{cause} {share:+.2f}" for cause, share in shares.items())
    return f"files are {sum(shares.values()):+.2f} % of the estimated bits longer: {parts}"
