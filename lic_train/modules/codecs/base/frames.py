"""A frame as a chunk: what becomes of the signals on its way when it is priced, coded or decoded.

A chunk is the kind (1 byte), the lengths of all parts but the last (varints), the parts, and 2
bytes of a checksum of the frame's size and 8-bit pixels, by which a decoder knows that it has the
frame that the next one was predicted from.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.bitstream import read_varints, varint
from lic_train.codec.contract import Shape
from lic_train.errors import BitstreamError
from lic_train.modules.codecs.base.transform import TransformCodec

CodePart = Callable[[str, Tensor | None], Tensor]
"""What becomes of a signal (None when decoding) in the part of that name: the decoded signal."""
INTRA, PREDICTED = b"I", b"P"
LEVELS = 255
CHECK_BYTES = 2


class Estimate:
    """``code`` of ``forward``: keeps the likelihoods."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.likelihoods: dict[str, Tensor] = {}

    def __call__(self, part: str, signal: Tensor | None) -> Tensor:
        (own,) = self.codec.part(part)(signal)
        self.likelihoods |= {f"{part}_{name}": p for name, p in own.likelihoods.items()}
        return own.x_hat


class Encode:
    """``code`` of ``encode``: keeps the parts, and continues with what they decode to."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.parts: list[bytes] = []

    def __call__(self, part: str, signal: Tensor | None) -> Tensor:
        assert signal is not None
        coder: Any = self.codec.part(part)
        own = coder.encode(signal, 0)
        self.parts += own
        return coder.decode(own, tuple(signal.shape), 0)

    def chunk(self, kind: bytes, x_hat: Tensor) -> bytes:
        """All of it, once the frame is decoded."""
        lengths = b"".join(varint(len(part)) for part in self.parts[:-1])
        return b"".join((kind, lengths, *self.parts, _check(x_hat)))


class Decode:
    """``code`` of ``decode``: takes the parts of one chunk, one after the other.

    Args:
        codec: whose parts decode.
        coders: those of this kind of frame, in order.
        chunk: of the frame.
        shape: ``(1, 3, H, W)`` of the frame.

    Raises:
        BitstreamError: the chunk is shorter than its parts.
    """

    def __init__(
        self, codec: Codec, coders: Sequence[TransformCodec], chunk: bytes, shape: Shape
    ) -> None:
        self.codec, self.size, self.check = codec, shape[2:], chunk[-CHECK_BYTES:]
        count = sum(coder.num_chunks for coder in coders)
        lengths, start = read_varints(chunk, 1, max(count - 1, 0))
        last = len(chunk) - CHECK_BYTES - start - sum(lengths)
        if last < 0 or (not count and last):
            raise BitstreamError("a frame of the stream is shorter than its parts: it is malformed")
        self.parts = [chunk[a:b] for a, b in pairwise(accumulate((*lengths, last), initial=start))]

    def __call__(self, part: str, signal: Tensor | None) -> Tensor:
        coder: Any = self.codec.part(part)
        own, self.parts = self.parts[: coder.num_chunks], self.parts[coder.num_chunks :]
        return coder.decode(own, (1, coder.channels, *self.size), 0)

    def verify(self, x_hat: Tensor) -> None:
        """Raise ``BitstreamError`` unless this is the frame that was coded."""
        if _check(x_hat) != self.check:
            raise BitstreamError(
                "a decoded frame is not the one that was coded: the stream is damaged, or this "
                "machine computes other frames than the encoder's"
            )


def _check(x_hat: Tensor) -> bytes:
    pixels = (x_hat * LEVELS).round().to(torch.uint8).cpu()
    size = b"".join(varint(side) for side in pixels.shape[-2:])
    check = zlib.crc32(pixels.contiguous().numpy().tobytes(), zlib.crc32(size))
    return check.to_bytes(4, "little")[:CHECK_BYTES]
