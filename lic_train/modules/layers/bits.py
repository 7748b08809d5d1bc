"""Tensors of bits and small numbers as bytes, eight bits each, without any coding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lic_train.errors import BitstreamError


def pack_signs(signs: Tensor) -> bytes:
    """-1 and +1 of any shape, in order; what is left of the last byte is 0."""
    return np.packbits((signs > 0).flatten().cpu().numpy()).tobytes()


def unpack_signs(chunk: bytes, shape: tuple[int, ...]) -> Tensor:
    """The inverse, float32 on the CPU.

    Raises:
        BitstreamError: the chunk is not one of so many bits.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(chunk) != -(-count // 8):
        raise BitstreamError("a chunk of the stream has the wrong length: it is malformed")
    values = np.unpackbits(np.frombuffer(chunk, np.uint8))
    if values[count:].any():
        raise BitstreamError("a chunk of the stream does not end as it should: it is malformed")
    return torch.from_numpy(values[:count]).float().mul_(2).sub_(1).reshape(shape)


def pack_numbers(numbers: Tensor, width: int) -> bytes:
    """Integers ``(n,)`` in ``0 ... 2^width - 1``, ``width`` bits each."""
    places = torch.arange(width - 1, -1, -1, device=numbers.device)
    return pack_signs(numbers[:, None] >> places & 1)


def unpack_numbers(chunk: bytes, count: int, width: int) -> Tensor:
    """The inverse, int64 on the CPU; raises as :func:`unpack_signs`."""
    places = 2 ** torch.arange(width - 1, -1, -1)
    return ((unpack_signs(chunk, (count, width)) > 0) * places).sum(1)
