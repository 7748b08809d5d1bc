"""Sources and outputs never mix, every kind that Pillow reads is read, and what is left out is
said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lic_train.data.io.listing import list_images
from lic_train.data.sources import ImageFolder
from lic_train.errors import DataError
from lic_train.utils import notices
from lic_train.utils.outputs import RECORD, check_overwrite, claimed_output, is_output

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_said", set())


def save(path: Path, format: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.convert("P" if format == "GIF" else "RGB").save(path, format=format)
    return path


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_images(root)]


@pytest.mark.parametrize("mark", [RECORD, "run.json", "sweep.json", "model.safetensors"])
def test_results_are_no_data(mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "reconstructions" / "a.png")
    save(tmp_path / "out" / "b.png")
    (tmp_path / "out" / mark).write_text("{}")
    assert names(tmp_path) == ["a.png"]
    assert "1 folder of results left out (out)" in capsys.readouterr().err
    # Asked for by name, they are what was asked for.
    assert names(tmp_path / "out" / "reconstructions") == ["a.png"]
    # Results beside the photographs themselves.
    (tmp_path / mark).write_text("{}")
    save(tmp_path / "figures" / "rd_curve.png")
    save(tmp_path / "originals" / "a.png")
    assert names(tmp_path) == ["a.png"]


def test_a_table_of_an_earlier_version_marks_its_folder(tmp_path: Path) -> None:
    (tmp_path / "rd_points.csv").write_text("dataset,image,codec,rate,lmbda\n")
    assert is_output(tmp_path)
    (tmp_path / "rd_points.csv").write_text("image,score\n")
    assert not is_output(tmp_path)


def test_every_kind_that_pillow_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {
        **{"a.png": "PNG", "b.jfif": "JPEG", "c.gif": "GIF", "d.avif": "AVIF", "e.jp2": "JPEG2000"},
        **{"f.pgm": "PPM", "g.jpe": "JPEG", "h.bmp": "BMP", "i.TIFF": "TIFF", "j.webp": "WEBP"},
    }
    for name, format in kinds.items():
        save(tmp_path / name, format)
    for name in ("k.heic", "l.svg", "m.svg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "n.png").symlink_to(tmp_path / "gone.png")
    assert names(tmp_path) == sorted(kinds)
    said = capsys.readouterr().err
    assert "3 files of other kinds left out (2 .svg, 1 .heic)" in said
    assert "1 link to nothing left out" in said
    source = ImageFolder(tmp_path)
    assert all(source.pixels(i).shape == (3, 16, 16) for i in range(len(source)))
    assert capsys.readouterr().err == ""  # once is enough


def test_names_that_are_no_utf8_stay_apart_and_printable(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", "café.png".encode(), b"a\\xe9.png"):
        save(tmp_path / os.fsdecode(name))
    source = ImageFolder(tmp_path)
    found = [source.name(i) for i in range(3)]
    assert len(set(found)) == 3 and "caf\\xe9.png" in found
    assert all(name.encode() for name in found)
    assert all(source.pixels(i).shape == (3, 16, 16) for i in range(3))


def test_an_output_is_claimed_and_given_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError), claimed_output(out, ["figures"]):
        raise ValueError
    assert not out.exists()
    with claimed_output(out, ["figures"]):
        (out / "figures").mkdir()
    with claimed_output(out, ["figures"]):  # ours
        pass
    theirs = tmp_path / "photos"
    save(theirs / "figures" / "drawing.png")
    with pytest.raises(DataError, match="holds figures, which lic_train did not write"):
        with claimed_output(theirs, ["figures"]):
            raise AssertionError
    with claimed_output(theirs, ["figures"], force=True):
        pass
    with pytest.raises(DataError, match="is a file"), claimed_output(out / RECORD, []):
        raise AssertionError


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    photo, ours, empty = tmp_path / "a.png", tmp_path / "b.lic", tmp_path / "c.lic"
    save(photo)
    ours.write_bytes(b"LIC" + bytes(10))
    empty.touch()
    (tmp_path / "link.png").symlink_to(photo)
    for out in (ours, empty, tmp_path / "new"):
        check_overwrite(out, [photo], b"LIC")
    for out, force in ((photo, True), (tmp_path / "link.png", True), (photo, False)):
        with pytest.raises(DataError, match="is the input itself"):
            check_overwrite(out, [photo], b"LIC", force)
    with pytest.raises(DataError, match="exists and lic_train did not write it"):
        check_overwrite(photo, [ours], b"LIC")
    check_overwrite(photo, [ours], b"LIC", force=True)
