"""Payload bytes are read off the files, and the thumbnail table compares by them."""

from __future__ import annotations

import csv
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.zoo import SCRIPTS, Zoo
from PIL import Image

from lic_train.anchors.payload import payload_bytes
from lic_train.codec.export import save_codec
from lic_train.errors import DataError

RNG = np.random.default_rng(0)
THUMBNAIL = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((32, 32))


def file(image: Image.Image = THUMBNAIL, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **settings)
    return buffer.getvalue()


def test_jpeg_counts_its_scans_alone() -> None:
    data = file(format="JPEG", quality=30)
    start = data.index(b"\xff\xda")
    header = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    assert data.count(b"\xff\xda") == 1 and data.endswith(b"\xff\xd9")
    assert payload_bytes(data) == len(data) - 2 - start - header
    # A comment, an ICC profile or Exif in front changes nothing.
    assert payload_bytes(file(format="JPEG", quality=30, comment=b"x" * 99)) == payload_bytes(data)
    # Restart markers are within the scan: at least their two bytes each.
    restarts = file(format="JPEG", quality=30, restart_marker_blocks=1)
    assert payload_bytes(restarts) > payload_bytes(data)
    progressive = file(format="JPEG", quality=30, progressive=True)
    assert progressive.count(b"\xff\xda") > 1
    assert 0 < payload_bytes(progressive) < len(progressive) - 300
    # Stuffed bytes FF 00 do not end a scan.
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    stuffed = file(noise, format="JPEG", quality=95)
    assert b"\xff\x00" in stuffed and payload_bytes(stuffed) > len(stuffed) - 700


def test_avif_counts_its_media_data() -> None:
    data = file(format="AVIF", quality=30)
    start = data.index(b"mdat")
    assert payload_bytes(data) == int.from_bytes(data[start - 4 : start], "big") - 8
    assert len(data) - payload_bytes(data) > 200
    with pytest.raises(DataError, match="cannot be told"):
        payload_bytes(data[:-1])


def test_webp_counts_the_frame_without_its_header() -> None:
    data = file(format="WEBP", quality=30, method=6)
    assert data[12:16] == b"VP8 "
    length = int.from_bytes(data[16:20], "little")
    assert payload_bytes(data) == length - 10
    assert len(data) == 20 + length + length % 2
    extended = file(format="WEBP", quality=30, method=6, exif=b"Exif\0\0" + b"x" * 50)
    assert extended[12:16] == b"VP8X" and payload_bytes(extended) == length - 10


def test_jpeg_2000_counts_what_follows_sod() -> None:
    settings: dict[str, Any] = {"format": "JPEG2000", "quality_mode": "dB", "quality_layers": [30]}
    stream = file(**settings, irreversible=True, no_jp2=True)
    assert payload_bytes(stream) == len(stream) - stream.index(b"\xff\x93") - 2 - 2
    boxed = file(**settings, irreversible=True)
    assert boxed[4:8] == b"jP  " and payload_bytes(boxed) == payload_bytes(stream)
    tiles = file(**settings, irreversible=True, tile_size=(16, 16))
    assert tiles.count(b"\xff\x93") >= 4 and payload_bytes(tiles) < len(tiles) - 4 * 14


def test_whatever_is_no_such_file_is_refused() -> None:
    for settings in ({"format": "JPEG"}, {"format": "WEBP"}, {"format": "JPEG2000"}):
        data = file(**settings)
        for length in (0, 3, 11, 20, len(data) // 2, len(data) - 3):
            with pytest.raises(DataError, match="payload"):
                payload_bytes(data[:length])
    for data in (file(format="PNG"), file(format="WEBP", lossless=True)):
        with pytest.raises(DataError, match="payload"):
            payload_bytes(data)


def test_the_thumbnail_table(
    zoo: Zoo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS / "benchmarks")
    script = importlib.import_module("thumbnail_table")
    run, out = tmp_path / "run", tmp_path / "out"
    save_codec(run, zoo.ready("mean_scale"), zoo.config("mean_scale"), name="small")
    script.main([str(run), "--data", "samples", "--limit", "3", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "means over 3 thumbnails" in printed and "headerless jpeg2000" in printed
    rows = list(csv.DictReader((out / "thumbnail_table.csv").open()))
    assert len(rows) == 4 * 4 and (out / "thumbnail_table.png").stat().st_size > 10_000
    for row in rows:
        payload, target = float(row["payload"]), int(row["target"])
        assert payload < float(row["file"]) and -1 <= float(row["ssim"]) <= 1
        assert (payload > target) >= (row["above_target"] == "1")
        if row["method"].startswith("headerless"):
            assert payload >= target
        else:
            assert (payload > target) == (row["above_target"] == "1")
    with pytest.raises(SystemExit) as caught:
        script.main([str(tmp_path / "none"), "--data", "samples", "--out", str(tmp_path / "new")])
    assert caught.value.code == 2 and "no run directory" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
