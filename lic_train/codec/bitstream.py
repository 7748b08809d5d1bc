"""The file: chunks of bytes, the shape and the rate, told from anything else by a checksum.

Layout (integers are LEB128 varints unless a size is given)::

    "LIC"            3 bytes   magic
    version | rank   1 byte    high nibble: format version; low nibble: number of shape entries
    fingerprint      6 bytes   of the weights that decode this stream
    shape            varints   (N, C, H, W) of the signal, or (N, T, C, H, W)
    rate             varint    index of the operating point
    chunks           varint    how many
    lengths          varints   of each chunk, in bytes
    the chunks
    crc32            4 bytes   of everything before it, little endian

A one-image file is at most 32 bytes longer than its chunks (tested). A chunk may be 0 bytes long.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from lic_train.errors import BitstreamError
from lic_train.utils.limits import max_pixels, too_many_pixels

MAGIC = b"LIC"
VERSION = 1
FINGERPRINT_BYTES = 6
CRC_BYTES = 4
# A header that claims more than this is damaged or hostile; the limit keeps a decoder from
# allocating terabytes. 2^32 samples are a 37,000 x 37,000 RGB image.
MAX_SAMPLES = 2**32


@dataclass(frozen=True)
class Bitstream:
    """One compressed signal.

    Args:
        chunks: the entropy-coded bytes, in the order ``Codec.decode`` wants them.
        shape: true shape of the signal, ``(N, C, H, W)`` or ``(N, T, C, H, W)``.
        rate: index of the operating point, ``0 ... num_rates - 1``.
        fingerprint: ``FINGERPRINT_BYTES`` bytes that name the weights.
    """

    chunks: tuple[bytes, ...]
    shape: tuple[int, ...]
    rate: int
    fingerprint: bytes

    def to_bytes(self) -> bytes:
        """The file's content. ``len()`` of it is the size every report shows."""
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"fingerprint must have {FINGERPRINT_BYTES} bytes")
        head = bytearray(MAGIC)
        head.append(VERSION << 4 | len(self.shape))
        head += self.fingerprint
        for value in (*self.shape, self.rate, len(self.chunks), *map(len, self.chunks)):
            head += varint(value)
        body = bytes(head) + b"".join(self.chunks)
        return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Bitstream:
        """Parse and check a whole file.

        Raises:
            BitstreamError: not a stream, another version, cut short, or altered anywhere.
        """
        if not data:
            raise BitstreamError("the file is empty: compress the image again")
        if data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise BitstreamError("not a lic_train stream (it does not begin with 'LIC')")
        body, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
        if len(data) < len(MAGIC) + 1 + CRC_BYTES or zlib.crc32(body).to_bytes(4, "little") != crc:
            raise BitstreamError(
                "the stream was cut short or altered (checksum does not match): copy the file again"
            )
        version = data[3] >> 4
        if version != VERSION:
            raise BitstreamError(
                f"stream format {version} is not known here (this version reads {VERSION}): "
                "update lic_train"
            )
        # The checksum holds, so what follows fails only on a stream some other program wrote.
        stream, lengths, position = cls._head(body)
        if position + sum(lengths) != len(body):
            raise BitstreamError("the stream's chunks do not fill the file: it is malformed")
        return replace(stream, chunks=_split(body, position, lengths))

    @classmethod
    def beginning(cls, data: bytes) -> Bitstream:
        """The chunks that are whole in a file that was cut short, under the header of all of it.

        Nothing checks these bytes: what decodes them has to.

        Raises:
            BitstreamError: not a stream, cut within its header, or not cut at all.
        """
        if data[: len(MAGIC)] != MAGIC or len(data) < 4 or data[3] >> 4 != VERSION:
            raise BitstreamError("not a lic_train stream that this version reads")
        stream, lengths, position = cls._head(data)
        if position + sum(lengths) + CRC_BYTES <= len(data):
            raise BitstreamError("the stream was altered (checksum does not match)")
        whole = sum(end <= len(data) for end in accumulate(lengths, initial=position)) - 1
        return replace(stream, chunks=_split(data, position, lengths[: max(whole, 0)]))

    @classmethod
    def _head(cls, body: bytes) -> tuple[Bitstream, list[int], int]:
        """The header as a stream without chunks, the chunks' lengths, and where they begin."""
        rank, position = body[3] & 15, 4 + FINGERPRINT_BYTES
        values, position = read_varints(body, position, rank + 2)
        *shape, rate, count = values
        if rank not in (4, 5) or count > len(body) or not 0 < _product(shape) <= MAX_SAMPLES:
            raise BitstreamError(f"the stream's header is malformed (shape {tuple(shape)})")
        if shape[-2] * shape[-1] > max_pixels():
            raise BitstreamError(too_many_pixels(f"an image of {shape[-1]}x{shape[-2]}"))
        lengths, position = read_varints(body, position, count)
        return cls((), tuple(shape), rate, body[4 : 4 + FINGERPRINT_BYTES]), lengths, position


def _split(data: bytes, position: int, lengths: Sequence[int]) -> tuple[bytes, ...]:
    ends = list(accumulate(lengths, initial=position))
    return tuple(data[a:b] for a, b in pairwise(ends))


def _product(values: Sequence[int]) -> int:
    product = 1
    for value in values:
        product *= value
    return product


def varint(value: int) -> bytes:
    """A number >= 0 as LEB128: 7 bits a byte, lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varints(data: bytes, position: int, count: int) -> tuple[list[int], int]:
    """Read ``count`` varints of at most 5 bytes (35 bits); return them and the next position."""
    values = []
    for _ in range(count):
        value = shift = 0
        while True:
            if position >= len(data) or shift > 28:
                raise BitstreamError("the stream's header is malformed")
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        values.append(value)
    return values, position
