"""The file format: small, exact, and every byte of it guarded."""

from __future__ import annotations

import random
import time
import zlib

import pytest

from lic_train.codec.bitstream import (
    CRC_BYTES,
    FINGERPRINT_BYTES,
    MAGIC,
    MAX_SAMPLES,
    VERSION,
    Bitstream,
)
from lic_train.errors import BitstreamError

PRINT = bytes(range(200, 200 + FINGERPRINT_BYTES))
SMALL = Bitstream((b"latents", b"", b"z"), (1, 3, 300, 17), 2, PRINT)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def seal(body: bytes) -> bytes:
    """A file that is damaged before its checksum is made, or made by some other program."""
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def file(values: list[int], rank: int = 4, chunks: bytes = b"", version: int = VERSION) -> bytes:
    """A file with a header of these values and a checksum that holds."""
    head = MAGIC + bytes([version << 4 | rank]) + PRINT
    return seal(head + b"".join(map(varint, values)) + chunks)


def refusal(data: bytes) -> str:
    start = time.perf_counter()
    with pytest.raises(BitstreamError) as caught:
        Bitstream.from_bytes(data)
    assert time.perf_counter() - start < 1
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 200
    return text


@pytest.mark.parametrize("shape", [(1, 3, 512, 768), (1, 3, 2000, 3000)], ids=str)
@pytest.mark.parametrize("sizes", [(0, 0), (30_000, 900), (1_000_000, 99_999)], ids=str)
def test_a_file_is_at_most_32_bytes_longer_than_its_chunks(
    shape: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    stream = Bitstream(tuple(map(bytes, sizes)), shape, 0, PRINT)
    data = stream.to_bytes()
    assert len(data) - sum(sizes) <= 32
    assert Bitstream.from_bytes(data) == stream


def test_the_layout_is_the_documented_one() -> None:
    """Files outlive programs: this is what version 1 looks like, byte by byte."""
    body = b"LIC\x14" + PRINT + b"\x01\x03\xac\x02\x11" + b"\x02" + b"\x03" + b"\x07\x00\x01"
    assert SMALL.to_bytes() == seal(body + b"latents" + b"z")


def test_whatever_is_written_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIC_MAX_PIXELS", str(2**32))
    draw = random.Random(0)
    for _ in range(500):
        # Sides from one to five bytes as varints, as long as the product is allowed.
        shape, room = [], MAX_SAMPLES
        for _ in range(draw.choice((4, 5))):
            shape.append(draw.randint(1, min(room, 2 ** draw.randint(0, 32))))
            room //= shape[-1]
        sizes = [draw.choice((0, 1, 127, 128, 300, 17_000)) for _ in range(draw.randint(0, 9))]
        stream = Bitstream(
            tuple(draw.randbytes(size) for size in sizes),
            tuple(shape),
            draw.randint(0, 2 ** draw.randint(0, 20)),
            draw.randbytes(FINGERPRINT_BYTES),
        )
        assert Bitstream.from_bytes(stream.to_bytes()) == stream


def test_every_truncation_is_refused() -> None:
    data = SMALL.to_bytes()
    texts = {refusal(data[:length]) for length in range(len(data))}
    assert any("empty" in text for text in texts)
    assert any("cut short" in text for text in texts)


def test_every_altered_byte_is_refused() -> None:
    data = SMALL.to_bytes()
    for position in range(len(data)):
        for change in range(1, 256):
            altered = bytearray(data)
            altered[position] ^= change
            with pytest.raises(BitstreamError):
                Bitstream.from_bytes(bytes(altered))


def test_bytes_that_come_or_go_are_refused() -> None:
    data = SMALL.to_bytes()
    for position in range(len(data)):
        refusal(data[:position] + data[position + 1 :])
        refusal(data[:position] + b"\0" + data[position:])
    refusal(data + b"\0")
    refusal(data + data)


def test_each_kind_of_wrong_file_has_its_own_message() -> None:
    data = SMALL.to_bytes()
    texts = {
        "empty": refusal(b""),
        "other": refusal(b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "cut": refusal(data[:-1]),
        "version": refusal(file([1, 3, 8, 8, 0, 0], version=VERSION + 1)),
    }
    assert len(set(texts.values())) == len(texts)
    assert "empty" in texts["empty"]
    assert "not a lic_train stream" in texts["other"]
    assert "cut short" in texts["cut"]
    assert "update lic_train" in texts["version"] and str(VERSION + 1) in texts["version"]
    for short in (b"L", b"LI", MAGIC, MAGIC + b"\x14"):
        assert "cut short" in refusal(short)
    for other in (b"X", b"lic", b"LID", b"\0" * 40):
        assert "not a lic_train stream" in refusal(other)


GOOD = [1, 3, 8, 8, 0, 2, 3, 4]


def test_the_forger_of_these_tests_can_write_a_good_file() -> None:
    stream = Bitstream.from_bytes(file(GOOD, chunks=b"abcdefg"))
    assert stream == Bitstream((b"abc", b"defg"), (1, 3, 8, 8), 0, PRINT)


@pytest.mark.parametrize(
    "data",
    [
        file([1, 3, 2**31, 2**31, 0, 0]),
        file([2**34] * 4 + [0, 0]),
        file([2**34] * 5 + [0, 0], rank=5),
        file([1, 3, 0, 8, 0, 0]),
        file([0, 3, 8, 8, 0, 0]),
        file([1, 3, 8, 8, 0, 2**34]),
        file([1, 3, 8, 8, 0, 1000], chunks=bytes(999)),
        file([1, 3, 8, 8, 0, 2, 3, 5], chunks=b"abcdefg"),
        file([1, 3, 8, 8, 0, 2, 3, 3], chunks=b"abcdefg"),
        file([1, 3, 8, 8, 0, 1, 2**34], chunks=b"abcdefg"),
        file([1, 3, 8, 8, 0, 0], chunks=b"abcdefg"),
        file([0, 0], rank=0),
        file([8, 0, 0], rank=1),
        file([3, 8, 8, 0, 0], rank=3),
        file([1, 1, 1, 3, 8, 8, 0, 0], rank=6),
        file([1] * 15 + [0, 0], rank=15),
        file([1, 3, 8, 8, 0]),
        file([1, 3, 8, 8]),
        file([]),
        seal(MAGIC + b"\x14"),
        seal(MAGIC + b"\x14" + PRINT[:3]),
        seal(MAGIC + b"\x14" + PRINT + b"\xff" * 40),
        seal(MAGIC + b"\x14" + PRINT + b"\x80" * 4000 + b"\x01"),
    ],
)
def test_a_hostile_header_with_a_checksum_that_holds_is_refused_at_once(data: bytes) -> None:
    assert "malformed" in refusal(data)


def test_random_headers_with_a_checksum_that_holds_are_read_or_refused() -> None:
    draw = random.Random(0)
    read = refused = 0
    for _ in range(3000):
        values = [draw.choice((0, 1, 1, 3, draw.randrange(2**20))) for _ in range(7)]
        try:
            stream = Bitstream.from_bytes(file(values, chunks=draw.randbytes(3)))
            assert len(stream.shape) == 4 and 0 not in stream.shape
            read += 1
        except BitstreamError:
            refused += 1
    assert read and refused


def test_a_fingerprint_of_another_length_is_not_written() -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        Bitstream((), (1, 3, 8, 8), 0, b"short").to_bytes()
