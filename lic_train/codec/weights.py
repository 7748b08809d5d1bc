"""Weights and coder tables out of a file, checked before a coder written in C is given them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel
from torch import Tensor, nn

from lic_train.errors import ModelError

PRECISION = 16
WIDEST = 1 << 20
"""Entries of a row, and distance of its offset, at most."""
MOST_ENTRIES = 1 << 24
"""Of all rows of one factorised prior together."""
ROWS = ("_quantized_cdf", "_cdf_length", "_offset")


def check_weights(codec: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what the codec could not work with.

    Args:
        codec: just built, so that its names, shapes and types are known; tables have any size.
        tensors: what a file holds.

    Raises:
        ModelError: a tensor has another type, a number is not finite, or a table is none: the range
            coder trusts its tables and would read beyond them.
    """
    state = codec.state_dict()
    if state.keys() != tensors.keys():
        return  # of another codec: loading them says which
    for name, own in state.items():
        found = tensors[name]
        if found.dtype != own.dtype:
            raise ModelError(f"{name} holds {found.dtype}, not {own.dtype}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} holds numbers that are not finite")
    for name, module in codec.named_modules():
        if isinstance(module, EntropyModel):
            prefix = f"{name}." if name else ""
            _check_tables(prefix, [tensors.get(prefix + row) for row in ROWS])
            scales = tensors.get(f"{prefix}scale_table")
            if scales is not None:
                _check_scales(f"{prefix}scale_table", scales, tensors[f"{prefix}_offset"])


def check_quantiles(codec: nn.Module) -> None:
    """Refuse quantiles whose tables would fill the memory, before they are built.

    Raises:
        ModelError: a factorised prior reaches too far.
    """
    for name, module in codec.named_modules():
        if isinstance(module, EntropyBottleneck):
            low, median, high = module.quantiles.detach()[:, 0].double().unbind(1)
            reach = (median - low).clamp(min=0).max() + (high - median).clamp(min=0).max()
            entries = float(reach) * module.channels
            if not entries < MOST_ENTRIES:  # nan is refused too
                raise ModelError(
                    f"{name}.quantiles reach over {float(reach):.3g} steps: they have diverged"
                )


def _check_tables(name: str, tables: list[Tensor | None]) -> None:
    """Cumulative tables: rows that rise strictly from 0 to 2^16 within their lengths."""
    cdf, lengths, offsets = tables
    if cdf is None or lengths is None or offsets is None or not cdf.numel():
        raise ModelError("it holds no coder tables: export the run again")
    if any(t.dtype != torch.int32 for t in (cdf, lengths, offsets)):
        raise ModelError(f"the coder tables {name}* are not of 32-bit integers")
    count = cdf.shape[0]
    if cdf.ndim != 2 or lengths.shape != (count,) or offsets.shape != (count,):
        raise ModelError(f"the coder tables {name}* have shapes that do not go together")
    width = cdf.shape[1]
    if width > WIDEST or bool((lengths < 3).any()) or bool((lengths > width).any()):
        raise ModelError(f"{name}_cdf_length holds lengths that its rows do not have")
    if bool((offsets.abs() > WIDEST).any()):
        raise ModelError(f"{name}_offset holds offsets that no latent has")
    places = torch.arange(width)
    inside = places[1:] < lengths[:, None]
    rises = (cdf[:, 1:].long() > cdf[:, :-1].long()) | ~inside
    last = cdf.gather(1, (lengths[:, None] - 1).long())[:, 0]
    if (
        bool((cdf[:, 0] != 0).any())
        or bool((last != 1 << PRECISION).any())
        or not bool(rises.all())
    ):
        raise ModelError(f"{name}_quantized_cdf is not made of rising cumulative tables")


def _check_scales(name: str, scales: Tensor, offsets: Tensor) -> None:
    """One table a scale, scales that rise from above 0."""
    flat = scales.flatten()
    if flat.numel() != offsets.numel():
        raise ModelError(f"{name} has {flat.numel()} scales for {offsets.numel()} tables")
    if bool((flat <= 0).any()) or bool((flat[1:] <= flat[:-1]).any()):
        raise ModelError(f"{name} does not rise from above 0")
