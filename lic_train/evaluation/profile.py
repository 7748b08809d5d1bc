"""What a codec weighs and computes, and where its time goes, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import num_pixels
from lic_train.utils.device import clock

REST = "rest"
"""Of the time: range coder, tables, and networks that coding does not call as a whole, such as a
masked convolution."""


@dataclass(frozen=True)
class PartCost:
    """One part of a codec, a row of the table."""

    part: str
    parameters: int
    macs: float
    """Multiply-accumulates per pixel of one forward pass in training."""
    encode_s: float
    """Seconds of the encoder that pass in this part, float64 where coding has it."""
    decode_s: float


def profile(codec: Codec, x: Tensor) -> list[PartCost]:
    """Cost of each part and, in the last row, of what is none.

    Args:
        codec: in eval mode with tables.
        x: one signal of its kind, ``(1, ...)`` in [0, 1], on its device.

    Raises:
        ModelError: it does not take such signals.
    """
    codec.accept(x)
    parts = parts_of(codec)
    stream = codec.compress(x)  # the first coding pays for kernels and caches
    codec.decompress(stream)
    encode, data = _timed(parts, x.device, lambda: codec.compress(x).to_bytes())
    decode, _ = _timed(parts, x.device, lambda: codec.decompress(Bitstream.from_bytes(data)))
    macs = _multiplications(codec, parts, x)
    rows = [
        PartCost(
            name,
            sum(p.numel() for p in module.parameters()),
            macs[name],
            encode[name],
            decode[name],
        )
        for name, module in parts.items()
    ]
    inside = sum(row.parameters for row in rows)
    own = sum(p.numel() for p in codec.parameters()) - inside
    return [*rows, PartCost(REST, own, macs[REST], encode[REST], decode[REST])]


def parts_of(codec: nn.Module) -> dict[str, nn.Module]:
    """The children of a codec by their names; where all is in one of them, that one's."""
    inside, prefix = codec, ""
    while len(children := dict(inside.named_children())) == 1:
        ((name, child),) = children.items()
        if not dict(child.named_children()):
            break
        inside, prefix = child, f"{prefix}{name}."
    return {prefix + name: child for name, child in inside.named_children()}


def _multiplications(codec: Codec, parts: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Per pixel, of a forward pass in training: in coding, some networks run piece by piece."""
    counter = FlopCounterMode(display=False)
    codec.train()
    try:
        with torch.no_grad(), counter:
            codec(x)
    finally:
        codec.eval()
    counts = counter.get_flop_counts()
    pixels, root = num_pixels(x), type(codec).__name__

    def of(name: str) -> float:
        return sum(counts.get(name, {}).values()) / 2 / pixels

    found = {name: _outermost(counts, f"{root}.{name}", of) for name in parts}
    return found | {REST: max(0.0, of("Global") - sum(found.values()))}


def _outermost(counts: dict[str, Any], name: str, of: Any) -> float:
    """Of a module or, where it is never called itself, of those within it that are."""
    if name in counts:
        return float(of(name))
    inside = [key for key in counts if key.startswith(f"{name}.")]
    top = [key for key in inside if not any(key.startswith(f"{other}.") for other in inside)]
    return float(sum(of(key) for key in top))


def _timed(
    parts: dict[str, nn.Module], device: torch.device, run: Any
) -> tuple[dict[str, float], Any]:
    """Seconds that pass in each part while ``run`` runs, and what it returns."""
    seconds = dict.fromkeys(parts, 0.0)
    with _watched(parts, device, seconds):
        start = clock(device)
        result = run()
        total = clock(device) - start
    return seconds | {REST: max(0.0, total - sum(seconds.values()))}, result


@contextmanager
def _watched(
    parts: dict[str, nn.Module], device: torch.device, seconds: dict[str, float]
) -> Iterator[None]:
    """Add to ``seconds`` while this is entered; of calls within a call, the outermost counts."""
    depth = dict.fromkeys(parts, 0)
    started = dict.fromkeys(parts, 0.0)
    handles: list[Any] = []
    for name, part in parts.items():

        def enter(module: nn.Module, inputs: Any, name: str = name) -> None:
            if not depth[name]:
                started[name] = clock(device)
            depth[name] += 1

        def leave(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            depth[name] -= 1
            if not depth[name]:
                seconds[name] += clock(device) - started[name]

        for module in part.modules():
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
