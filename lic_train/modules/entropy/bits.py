"""Tensors of bits and small numbers as bytes: eight to a byte, or more by their probabilities."""

from __future__ import annotations

import zlib

import constriction
import numpy as np
import torch
from torch import Tensor

from lic_train.errors import BitstreamError

LEVELS = 1 << 12
"""Probabilities are multiples of one part in so many: coarse enough for all machines to agree."""
RAREST = 16
CHECK_BYTES = 2

_BIT = constriction.stream.model.Bernoulli(perfect=False)


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


def snap_probabilities(logits: Tensor) -> Tensor:
    """Probabilities of +1 as the coder has them, float64, of logits."""
    steps = torch.round(LEVELS * torch.sigmoid(logits.double()))
    return steps.clamp(RAREST, LEVELS - RAREST) / LEVELS


def encode_signs(signs: Tensor, probabilities: Tensor) -> bytes:
    """-1 and +1 under their probabilities of being +1, as :func:`snap_probabilities` gives them; as
    :func:`pack_signs` does where that is no longer."""
    raw = pack_signs(signs)
    if bool((probabilities == 0.5).all()):  # without a context model bits are sent raw
        return raw
    coder = constriction.stream.stack.AnsCoder()
    ones = (signs > 0).flatten().int().cpu().numpy()
    coder.encode_reverse(ones, _BIT, _flat(probabilities))
    # The last word's high bytes are often zero, and the length tells that they are missing.
    coded = coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
    return min(raw, _check(raw) + coded, key=len)


def decode_signs(chunk: bytes, probabilities: Tensor) -> Tensor:
    """The inverse, float32 on the CPU, in the shape of the probabilities.

    Raises:
        BitstreamError: the chunk is malformed, or decodes to other bits than were coded.
    """
    shape = tuple(probabilities.shape)
    if len(chunk) >= -(-probabilities.numel() // 8):
        return unpack_signs(chunk, shape)
    check, words = chunk[:CHECK_BYTES], chunk[CHECK_BYTES:]
    if len(check) < CHECK_BYTES or words.endswith(b"\0"):
        raise BitstreamError("a chunk of the stream does not end as it should: it is malformed")
    words += bytes(-len(words) % 4)
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
    ones = coder.decode(_BIT, _flat(probabilities))
    signs = torch.from_numpy(ones).float().mul_(2).sub_(1).reshape(shape)
    if _check(pack_signs(signs)) != check:
        raise BitstreamError("the decoded bits are not those that were coded: it is malformed")
    return signs


def _flat(probabilities: Tensor) -> np.ndarray:
    return probabilities.flatten().cpu().numpy().astype(np.float64)


def _check(raw: bytes) -> bytes:
    return zlib.crc32(raw).to_bytes(4, "little")[:CHECK_BYTES]
