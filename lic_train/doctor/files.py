"""What a run would write: a file as long as promised, and checkpoints that find room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lic_train.codec.export import ready_copy
from lic_train.codec.signal import num_images
from lic_train.doctor.preflight import Finding, Preflight, finite
from lic_train.modules.entropy import accounts

GAP, GAP_BYTES = 1.25, 128
"""A file may be so many times what the likelihoods promise, and so many bytes."""
ESCAPES = 0.3
"""Share of the latents that may lie outside their tables: untrained a tenth does, trained 0.1 %."""
SAMPLE = 64
"""Pixels a side of the image that is coded."""


def weights(p: Preflight) -> Iterator[Finding]:
    """Whether the weights that the run starts from are numbers."""
    codec = p.experiment.module.codec
    if not finite(codec):
        bad = [name for name, w in codec.named_parameters() if not w.isfinite().all()]
        said = f"{len(bad)} are not finite before the first step, e.g. {bad[0]}"
        yield Finding("weights", said, "start from another run, or anew")


@torch.no_grad()
def tables(p: Preflight) -> Iterator[Finding]:
    """Whether the coder's tables cover the latents: a file about as long as promised."""
    module = p.experiment.module
    if not finite(module):
        return  # told above; of what is no number the coder would never see the end
    x: Tensor = p.validation.x[:1, ..., :SAMPLE, :SAMPLE]
    codec = ready_copy(module.codec, module.solves_quantiles)
    promised = codec.estimate(x) / 8
    with accounts.kept() as entries:
        written = len(codec.compress(x).to_bytes())
    escaped = np.concatenate([entry().escaped for entry in entries] or [np.zeros(1, dtype=bool)])
    said = f"{x.shape[-1]} x {x.shape[-2]} pixels: {written} bytes, {promised:.0f} estimated"
    too_long = written > GAP * promised + GAP_BYTES * num_images(x)
    if too_long or escaped.mean() > ESCAPES:
        said += f": {escaped.mean():.0%} of the latents lie outside the tables"
        yield Finding(
            "tables", said, "start from another run; optimizer=solve puts quantiles right"
        )
    else:
        yield Finding("tables", said)


def disk(p: Preflight) -> Iterator[Finding]:
    """Whether there is room for the checkpoints: three, and one that is being written."""
    module = p.experiment.module
    weights = sum(w.numel() * w.element_size() for w in module.parameters())
    averages = 1 if "ema" in p.cfg.callbacks else 0
    needed = 4 * weights * (3 + averages)  # Adam's two moments beside each weight
    folder = p.run_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free, checkpoints take {needed / 1e9:.2g} GB"
    if free < needed:
        yield Finding("disk", said, "make room, or hydra.run.dir on another disk")
    else:
        yield Finding("disk", said)
