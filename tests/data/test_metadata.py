"""Good pixels with odd metadata are good; what is no image is told apart from a damaged one."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from lic_train.data.io.images import PNG_SIGNATURE, decode_image, read_image
from lic_train.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(2, 0, 1)
JUNK = b"Exif\0\0II*\0\xff\xff\xff\xff and no directory"


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_with(*chunks: bytes) -> bytes:
    """A PNG file with more chunks before its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format="PNG")
    data = buffer.getvalue()
    end = data.index(b"IDAT") - 4
    return data[:end] + b"".join(chunks) + data[end:]


LONG = bytes(1_500_000)
PNGS = {
    "long zTXt": png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))),
    "long iTXt": png_with(chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(LONG))),
    "long iCCP": png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(LONG))),
    "short gAMA": png_with(chunk(b"gAMA", b"\0")),
    "short pHYs": png_with(chunk(b"pHYs", b"\0\1")),
    "short cHRM": png_with(chunk(b"cHRM", b"\0\1\2")),
    "junk eXIf": png_with(chunk(b"eXIf", JUNK[6:])),
    "text that is no deflate": png_with(chunk(b"zTXt", b"Comment\0\0 not compressed")),
}


@pytest.mark.parametrize("kind", PNGS)
def test_pixels_of_a_png_do_not_depend_on_its_other_chunks(kind: str) -> None:
    picture = decode_image(PNGS[kind], kind)
    assert torch.equal(picture.pixels, EXPECTED)
    assert picture.note in ("", "unreadable metadata ignored")
    damaged = bytearray(PNGS[kind])
    damaged[damaged.rindex(b"IDAT") + 100] ^= 0x55
    with pytest.raises(DataError, match="corrupt or truncated"):
        decode_image(bytes(damaged), kind)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_junk_exif_is_ignored(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    plain, junk = io.BytesIO(), io.BytesIO()
    Image.fromarray(PIXELS).save(plain, format=format, **options)
    if format == "TIFF":  # its directory is its EXIF
        junk = plain
    else:
        Image.fromarray(PIXELS).save(junk, format=format, exif=JUNK, **options)
    whole = decode_image(plain.getvalue(), "plain").pixels
    assert torch.equal(decode_image(junk.getvalue(), "junk").pixels, whole)


def test_orientation_is_applied_beside_other_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png_with(chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"gAMA", b"\0"))
    picture = decode_image(data, "x")
    assert torch.equal(picture.pixels, torch.rot90(EXPECTED, -1, (1, 2)))
    assert picture.note == "EXIF orientation applied, unreadable metadata ignored"


def test_a_profile_that_is_not_srgb_is_said() -> None:
    for profile, note in (("sRGB", ""), ("LAB", "colour profile not applied")):
        buffer = io.BytesIO()
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile(profile)).tobytes()
        Image.fromarray(PIXELS).save(buffer, format="PNG", icc_profile=icc)
        assert decode_image(buffer.getvalue(), "x").note == note


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    heic = tmp_path / "photo.jpg"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    pointer = tmp_path / "big.png"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    pipe, loop = tmp_path / "pipe.png", tmp_path / "loop.png"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, words in (
        (heic, "is HEIC"),
        (pointer, "git lfs pull"),
        (pipe, "is no file"),
        (loop, "loop.png"),
    ):
        with pytest.raises(DataError, match=words):
            read_image(path)


def test_the_limit_of_pixels_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png_with()
    assert data.startswith(PNG_SIGNATURE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back as it was
    monkeypatch.setenv("LIC_MAX_PIXELS", "599")
    with pytest.raises(DataError, match=r"more than 599 pixels.*LIC_MAX_PIXELS"):
        decode_image(data, "x")
    monkeypatch.setenv("LIC_MAX_PIXELS", "600")
    assert torch.equal(decode_image(data, "x").pixels, EXPECTED)
    monkeypatch.setenv("LIC_MAX_PIXELS", "many")
    with pytest.raises(DataError, match="LIC_MAX_PIXELS is 'many'"):
        decode_image(data, "x")
