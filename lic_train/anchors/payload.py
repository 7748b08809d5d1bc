"""Payload of a JPEG, WebP, JPEG 2000, AVIF or HEIF file: its coded bytes, without any header.

The measure of Toderici et al. (arXiv:1511.06085) for thumbnails, where headers outweigh pixels; the
paper gives no byte accounting, so this one is defined here and read off the files:

- JPEG: from the end of each scan's SOS segment to the next marker that is not a restart;
- WebP, lossy: the VP8 chunk without its 10-byte key-frame header;
- JPEG 2000: each tile-part after its SOD marker, packet headers included;
- AVIF and HEIF: the media data, which holds the coded picture with its own small headers.

It favours these codecs a little: their decoders would have to know size, quality and tables.
"""

from __future__ import annotations

import re
from typing import Literal

from lic_train.errors import DataError

# In a scan, FF 00 is a byte FF of the code and FF D0 ... FF D7 are restarts.
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
VP8_KEY_FRAME_HEADER = 10


def payload_bytes(data: bytes) -> int:
    """Entropy-coded bytes in a whole file.

    Raises:
        DataError: it is none of these, or malformed.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[4:8] == b"jP  ":
            return _codestream(_box(data, b"jp2c"))
        if data[:4] == b"\xff\x4f\xff\x51":
            return _codestream(data)
        if data[4:8] == b"ftyp":
            return len(_box(data, b"mdat"))
    except IndexError:
        pass
    raise DataError(
        "the payload of this file cannot be told: it is no whole JPEG, lossy WebP, J2K or HEIF"
    )


def _number(
    data: bytes, position: int, length: int, order: Literal["big", "little"] = "big"
) -> int:
    if position + length > len(data):
        raise IndexError
    return int.from_bytes(data[position : position + length], order)


def _jpeg(data: bytes) -> int:
    payload, position = 0, 2
    while (marker := _number(data, position, 2)) != 0xFFD9:  # EOI
        position += 2 + _number(data, position + 2, 2)
        if marker == 0xFFDA:  # SOS
            end = END_OF_SCAN.search(data, position)
            if end is None:
                raise IndexError
            payload += end.start() - position
            position = end.start()
        elif marker < 0xFF01:
            raise IndexError
    return payload


def _webp(data: bytes) -> int:
    position = 12
    while (kind := data[position : position + 4]) != b"VP8 ":
        if len(kind) < 4:
            raise IndexError
        length = _number(data, position + 4, 4, "little")
        position += 8 + length + length % 2
    length = _number(data, position + 4, 4, "little")
    if length < VP8_KEY_FRAME_HEADER or position + 8 + length > len(data):
        raise IndexError
    return length - VP8_KEY_FRAME_HEADER


def _box(data: bytes, wanted: bytes) -> bytes:
    """The content of a JP2 box."""
    position = 0
    while True:
        length, kind = _number(data, position, 4), data[position + 4 : position + 8]
        header = 16 if length == 1 else 8
        length = _number(data, position + 8, 8) if length == 1 else length or len(data) - position
        if length < header or position + length > len(data):
            raise IndexError
        if kind == wanted:
            return data[position + header : position + length]
        position += length


def _codestream(data: bytes) -> int:
    payload, position = 0, 2
    while (marker := _number(data, position, 2)) != 0xFFD9:  # EOC
        if marker != 0xFF90:  # not SOT: a segment of the main header
            position += 2 + _number(data, position + 2, 2)
            continue
        length = _number(data, position + 6, 4)  # 0: up to EOC
        end = position + length if length else len(data) - 2
        while _number(data, position, 2) != 0xFF93:  # SOD
            position += 2 + _number(data, position + 2, 2)
        if not position + 2 <= end <= len(data) - 2:
            raise IndexError
        payload += end - position - 2
        position = end
    return payload
