"""How far eval-mode forward is from the files, of codecs that cannot promise that it is not.

Papers whose numbers come from ``forward`` report what no file holds where the two differ.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.signal import to_uint8
from lic_train.rd import metrics


@dataclass(frozen=True)
class ForwardGap:
    """One file beside eval-mode forward; the columns of ``forward_gap.csv``."""

    dataset: str
    image: str
    codec: str
    rate: int
    lmbda: float | None
    forward_psnr: float
    """dB, of what ``Codec.reconstruct`` gives."""
    file_psnr: float
    """dB, of what the file decodes to in another process."""

    @property
    def db(self) -> float:
        """What forward promises beyond the file."""
        return self.forward_psnr - self.file_psnr


def forward_psnr(codec: Codec, x: Tensor, rate: int, reference: Tensor) -> float:
    """PSNR in dB of eval-mode forward at a rate against 8-bit ``reference``.

    Args:
        codec: in eval mode.
        x: one signal, ``(1, ...)`` in [0, 1].
        rate: index of the operating point.
        reference: ``(..., C, H, W)``, uint8, on the CPU.
    """
    return metrics.psnr(to_uint8(codec.reconstruct(x, rate)[0]).cpu(), reference)


def describe(gaps: Sequence[ForwardGap]) -> str:
    """Return one line: the mean difference and the largest."""
    differences = [gap.db for gap in gaps]
    largest = max(gaps, key=lambda gap: abs(gap.db))
    return (
        f"eval-mode forward is {statistics.fmean(differences):+.3f} dB from the files in the mean, "
        f"{largest.db:+.3f} dB at most ({largest.image})"
    )
