"""What a codec weighs and computes: parameters, and multiplications per pixel of one pass."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from lic_train.codec.contract import Codec

SIDE, FRAMES = 256, 2
"""Of the image, or of the frames of the clip, that is passed through."""


@torch.no_grad()
def cost(codec: Codec) -> dict[str, int | float]:
    """``parameters``, and ``kmacs_per_pixel``: thousands of multiply-accumulates.

    Those are of convolutions and matrix products in ``forward``, coder and decoder together, by
    torch's counter; of all rates where ``forward`` computes all. Left out where the codec takes no
    image of 256x256.

    Args:
        codec: in eval mode, on the CPU; it is not changed.
    """
    said: dict[str, int | float] = {"parameters": sum(p.numel() for p in codec.parameters())}
    frames = (FRAMES,) if codec.signal_dims == 5 else ()
    x = torch.full((1, *frames, 3, SIDE, SIDE), 0.5)
    counter = FlopCounterMode(display=False)
    try:
        with torch.random.fork_rng(devices=[]), counter:
            codec(x)
    except Exception:  # a number for a table is worth no run
        return said
    pixels = SIDE * SIDE * (FRAMES if frames else 1)
    return said | {"kmacs_per_pixel": round(counter.get_total_flops() / 2 / pixels / 1e3, 2)}
