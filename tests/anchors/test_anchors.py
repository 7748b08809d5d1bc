"""Anchors are real files of real libraries; what is not there is absent, and never made up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lic_train.anchors import image as anchors
from lic_train.anchors import ladder
from lic_train.anchors.choose import choose
from lic_train.anchors.image import ANCHORS, JPEG, WEBP, ImageAnchor
from lic_train.cli import _main as cli
from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signal
from lic_train.errors import DataError
from lic_train.rd import metrics
from lic_train.rd.points import RDPoint, read_csv


@pytest.fixture(scope="module")
def photo() -> Signal:
    """A smooth image with edges: JPEG of noise would say little."""
    y, x = torch.meshgrid(torch.linspace(0, 9, 176), torch.linspace(0, 12, 200), indexing="ij")
    waves = torch.stack([torch.sin(x + y), torch.cos(x * y / 4), torch.sin(3 * x).sign() * 0.6])
    return Signal("photo", to_uint8(waves / 2 + 0.5))


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really coded, for all that an image of a flat grey loads the library."""
    calls: list[str] = []

    code = ImageAnchor.code

    def watched(anchor: ImageAnchor, pixels: torch.Tensor, quality: int) -> Any:
        if pixels is not ladder._GREY:
            calls.append(f"{anchor.name} {quality}")
        return code(anchor, pixels, quality)

    monkeypatch.setattr(ImageAnchor, "code", watched)
    return calls


def test_jpeg_rows_are_of_files(photo: Signal, tmp_path: Path) -> None:
    points, missing = ladder.anchor_rows([JPEG], [photo], "set")
    assert [p.rate for p in points] == list(anchors.LADDER) and missing == {}
    assert {p.codec for p in points} == {"jpeg"}
    array = photo.pixels.permute(1, 2, 0).contiguous().numpy()
    for p in points[::8]:
        path = tmp_path / f"{p.rate}.jpg"
        Image.fromarray(array).save(path, quality=p.rate, subsampling="4:2:0", optimize=True)
        assert p.bytes == path.stat().st_size and p.bpp == 8 * p.bytes / (200 * 176)
        decoded = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        assert p.psnr == metrics.psnr(decoded, photo.pixels)
        assert p.bpp_estimated is None and p.encode_s > 0 and p.decode_s > 0
    assert points[-1].psnr > points[0].psnr + 8
    assert all(0 < p.ms_ssim <= 1 for p in points)


@pytest.mark.parametrize("anchor", ANCHORS.values(), ids=ANCHORS)
def test_every_anchor_codes_and_describes_itself(anchor: ImageAnchor, photo: Signal) -> None:
    if why := anchor.absent():
        pytest.skip(why)
    ends = replace(anchor, qualities=(anchor.qualities[1], anchor.qualities[-2]))
    (low, high), _ = ladder.anchor_rows([ends], [photo], "set")
    assert high.bytes > low.bytes and high.psnr > low.psnr
    text = anchor.describe()
    assert text["through"].startswith("pillow ") and text["library"] and "Q" in text["settings"]
    assert str(anchor.qualities[-1]) not in text["settings"]
    # The same file again: nothing depends on the clock, nor on what was coded before.
    first, second = (anchor.code(photo.pixels, anchor.qualities[3]) for _ in range(2))
    assert first.data == second.data and torch.equal(first.pixels, second.pixels)


def test_what_is_not_installed_is_absent(
    photo: Signal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    chosen = [replace(a, qualities=a.qualities[:2]) for a in (JPEG, anchors.HEVC, anchors.JPEGXL)]
    points, missing = ladder.anchor_rows(chosen, [photo], "set")
    assert {p.codec for p in points} == {"jpeg"}
    assert set(missing) == {"hevc", "jpegxl"}
    assert missing["hevc"].startswith("HEVC intra (x265) is absent (")
    assert missing["hevc"].endswith("pip install 'lic_train[anchors]'")
    ladder.write_record(chosen, missing, tmp_path / "anchors.json")
    record = json.loads((tmp_path / "anchors.json").read_text())
    assert [entry["codec"] for entry in record["anchors"]] == ["jpeg"]
    assert record["absent"] == missing


def test_an_anchor_that_fails_on_one_image_is_absent_from_all(photo: Signal) -> None:
    wide = Signal("wide", torch.zeros(3, 1, 16384, dtype=torch.uint8))  # WebP ends at 16383
    chosen = [replace(JPEG, qualities=(50,)), replace(WEBP, qualities=(50, 60))]
    points, missing = ladder.anchor_rows(chosen, [photo, wide, photo], "set")
    assert [p.codec for p in points] == ["jpeg"] * 3
    assert list(missing) == ["webp"] and "cannot code an image of 16384x1" in missing["webp"]
    assert missing["webp"].endswith(": wide")


def test_a_result_is_kept_by_pixels_version_and_settings(
    photo: Signal, tmp_path: Path, coded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(*anchor: ImageAnchor, signal: Signal = photo, jobs: int = 2) -> list[RDPoint]:
        coded.clear()
        return ladder.anchor_rows(anchor, [signal], "set", jobs=jobs, cache=tmp_path)[0]

    two = replace(JPEG, qualities=(20, 60))
    first = rows(two)
    assert sorted(coded) == ["jpeg 20", "jpeg 60"]
    assert rows(two, jobs=1) == first and coded == []  # timings included: they are the first's
    assert [p.image for p in rows(two, signal=photo._replace(name="other"))] == ["other"] * 2
    assert coded == []  # the name is not the image
    rows(replace(two, qualities=(20, 40, 60)))
    assert coded == ["jpeg 40"]
    rows(replace(two, save_settings=lambda q: {"quality": q, "subsampling": "4:4:4"}))
    assert len(coded) == 2
    changed = photo.pixels.clone()
    changed[0, 0, 0] += 1
    rows(two, signal=photo._replace(pixels=changed))
    assert len(coded) == 2
    rows(replace(two, library=lambda: "libjpeg-turbo 9.9.9"))
    assert len(coded) == 2
    for path in tmp_path.rglob("*.json"):
        path.write_text(path.read_text()[:-5])  # damaged
    again = rows(two)
    assert len(coded) == 2
    assert [p.bytes for p in again] == [p.bytes for p in first]


def test_threads_change_nothing_but_seconds(photo: Signal) -> None:
    def untimed(jobs: int) -> list[RDPoint]:
        chosen = [replace(a, qualities=a.qualities[::6]) for a in ANCHORS.values()]
        rows, _ = ladder.anchor_rows(chosen, [photo], "set", jobs=jobs)
        return [replace(p, encode_s=0, decode_s=0) for p in rows]

    assert untimed(1) == untimed(4)


# --- the command


@pytest.fixture
def folder(photo: Signal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of two images."""
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    array = photo.pixels.permute(1, 2, 0).numpy()
    for name, side in (("a.png", 176), ("b.png", 170)):
        Image.fromarray(array[:side]).save(Path("set") / name)
    return tmp_path


def test_the_command_writes_rows_record_and_figure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["anchors", "set", "--out", "out", "--codecs", "jpeg", "webp"])
    points = read_csv(Path("out/rd_points.csv"))
    assert {(p.codec, p.image) for p in points} == {
        (c, i) for c in ("jpeg", "webp") for i in ("a.png", "b.png")
    }
    record = json.loads(Path("out/anchors.json").read_text())
    assert [entry["codec"] for entry in record["anchors"]] == ["jpeg", "webp"]
    assert record["anchors"][1]["settings"] == "quality=Q, method=6"
    assert 20 < record["anchors"][1]["header_bytes"] < 50 < record["anchors"][0]["header_bytes"]
    assert Path("out/figures/rd_curve.png").is_file() and Path("out/rd_summary.json").is_file()
    out = capsys.readouterr().out
    assert "means over 2 images" in out and "libwebp" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "--codecs", "bpg"], "there is no anchor 'bpg': there are jpeg, webp"),
        (["set", "--jobs", "0"], "--jobs is 0"),
        (["nowhere"], "nowhere"),
        (["."], "."),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments == ["."]:
        for path in Path("set").iterdir():
            path.unlink()
    with pytest.raises(SystemExit) as caught:
        cli.main(["anchors", *arguments, "--out", "out"])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == "" and not Path("out").exists()
    assert len(captured.err.splitlines()) == 1 and words in captured.err


def test_an_empty_list_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in set"):
        ladder.anchor_rows([JPEG], [], "set")


def test_unknown_anchors_are_refused_before_anything_is_coded() -> None:
    call: Callable[..., object] = choose
    assert [a.name for a in choose(["webp", "jpeg", "webp"])] == ["webp", "jpeg"]
    with pytest.raises(DataError, match="no anchor 'BPG'"):
        call(["jpeg", "BPG"])
