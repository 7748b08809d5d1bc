"""A prepared set is the same whoever was killed while it was made; leaks are found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lic_train.cli import _main as cli
from lic_train.data.fingerprint import perceptual_hash
from lic_train.data.io.images import read_image
from lic_train.data.prepare import Settings, prepare
from lic_train.data.sets.prepared import MANIFEST, PreparedImages, prepared
from lic_train.data.sources import Samples
from lic_train.errors import DataError

RNG = np.random.default_rng(3)
SMALL = Settings(min_side=32, shard_images=3)


def noise(path: Path, width: int = 40, height: int = 36) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight images that do, and one of each kind that does not."""
    folder = tmp_path / "source"
    for i in range(8):
        noise(folder / f"{i}.png", 40 + i, 50 - i)
    noise(folder / "a" / "small.png", 31, 90)
    shutil.copy(folder / "2.png", folder / "copy.png")
    Image.open(folder / "5.png").save(folder / "other_file_same_pixels.bmp")
    Image.open(folder / "1.png").convert("L").save(folder / "grey.png")
    Image.open(folder / "1.png").convert("L").convert("RGB").save(folder / "grey_as_rgb.png")
    (folder / "junk.jpg").write_bytes(b"no image " * 9)
    (folder / "zero.png").touch()
    return folder


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return {str(p.relative_to(folder)): d for p, d in zip(files, digests, strict=True)}


def test_what_is_kept_and_what_is_dropped(source: Path, tmp_path: Path) -> None:
    manifest = prepare(source, tmp_path / "set", SMALL)
    assert manifest == json.loads((tmp_path / "set" / MANIFEST).read_text())
    assert manifest["counts"] == {
        **{"seen": 15, "kept": 8, "corrupt": 2, "small": 1, "grey": 2, "duplicate": 2}
    }
    dropped = {drop["name"]: (drop["reason"], drop["detail"]) for drop in manifest["dropped"]}
    assert dropped["copy.png"] == ("duplicate", "of 2.png")
    assert dropped["other_file_same_pixels.bmp"] == ("duplicate", "of 5.png")
    assert dropped["a/small.png"] == ("small", "31x90")
    assert dropped["grey_as_rgb.png"][0] == dropped["grey.png"][0] == "grey"
    assert dropped["junk.jpg"][1].startswith("is not an image")
    images = PreparedImages(tmp_path / "set")
    images.verify()
    assert [images.name(i) for i in range(len(images))] == [f"{i}.png" for i in range(8)]
    for i in range(8):
        pixels = read_image(source / f"{i}.png").pixels
        assert torch.equal(images.pixels(i), pixels)
        assert images.fingerprint(i) == perceptual_hash(pixels)
        images.expect(i, 0, pixels.shape[1])
    shards = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert shards == [MANIFEST, *(f"shard-{i:05}.bin" for i in range(3))]
    assert prepare(source, tmp_path / "set", SMALL) == manifest  # nothing is left to be done


def test_downsampling_grey_and_licence(source: Path, tmp_path: Path) -> None:
    settings = Settings(min_side=15, downsample=2, keep_grey=True, licence="CC0")
    manifest = prepare(source, tmp_path / "set", settings)
    assert manifest["counts"]["grey"] == 0 and manifest["licence"] == "CC0"
    assert manifest["settings"]["downsample"] == 2
    sizes = {image["name"]: (image["width"], image["height"]) for image in manifest["images"]}
    assert sizes["0.png"] == (20, 25) and sizes["a/small.png"] == (16, 45)
    again = prepare(source, tmp_path / "all", Settings(min_side=15, keep_duplicates=True))
    assert again["counts"]["duplicate"] == 0 and again["counts"]["kept"] == 11
    with pytest.raises(DataError, match="downsample of at least 1"):
        Settings(downsample=0.5)


def test_neither_workers_nor_two_kills_change_a_byte(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for i in range(60):
        noise(source / f"{i:02}.png", 300, 260)
    shutil.copy(source / "03.png", source / "20.png")
    prepare(source, tmp_path / "whole", Settings(shard_images=2), workers=2)
    whole = content(tmp_path / "whole")
    assert len(whole) == 31
    command = [sys.executable, "-m", "lic_train.cli._main", "data", "prepare", str(source)]
    command += [str(tmp_path / "broken"), "--shard-images=2", "--workers=1"]
    work = tmp_path / "broken" / ".work"
    for parts in (2, 6):
        process = subprocess.Popen(command, start_new_session=True)
        while len(list(work.glob("part-*.json"))) < parts and process.poll() is None:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "broken" / MANIFEST).exists()
        assert 2 <= len(list(work.glob("part-*.json"))) < 30
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert content(tmp_path / "broken") == whole


def test_a_kill_while_parts_become_shards_changes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = prepare(source, tmp_path / "whole", SMALL)
    replace, count = os.replace, 0

    def killed(old: Any, new: Any) -> None:
        nonlocal count
        if "shard-" in str(new):
            count += 1
        if count == 3:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        prepare(source, tmp_path / "broken", SMALL)
    assert (tmp_path / "broken" / "shard-00000.bin").is_file()
    assert prepare(source, tmp_path / "broken", SMALL) == manifest
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_a_folder_that_holds_something_else_is_refused(source: Path, tmp_path: Path) -> None:
    noise(tmp_path / "full" / "x.png")
    with pytest.raises(DataError, match="is not empty"):
        prepare(source, tmp_path / "full", SMALL)
    prepare(source, tmp_path / "set", SMALL)
    with pytest.raises(DataError, match="other images or settings"):
        prepare(source, tmp_path / "set", Settings(min_side=33))
    with pytest.raises(DataError, match="no image was kept"):
        prepare(source, tmp_path / "none", Settings(min_side=999))
    with pytest.raises(DataError, match="unfinished set of other"):
        prepare(source, tmp_path / "none", Settings(min_side=33))


def test_faults_of_a_set_are_named(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    with pytest.raises(DataError, match=r"data\.root=FOLDER"):
        PreparedImages(None)
    with pytest.raises(DataError, match=f"holds no {MANIFEST}"):
        PreparedImages(source)
    prepare(source, root, SMALL)
    shard, whole = root / "shard-00001.bin", (root / "shard-00001.bin").read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"shard-00001\.bin: is truncated \(\d+ bytes, expected"):
        PreparedImages(root)
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"shard-00001\.bin: is not what manifest"):
        PreparedImages(root).verify()
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.bin: is missing"):
        PreparedImages(root)
    shard.write_bytes(whole)
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["images"][4]["height"] += 99
    (root / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"beyond its shard; manifest\.json does not match"):
        PreparedImages(root)
    (root / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="is no manifest"):
        PreparedImages(root)
    (root / MANIFEST).write_text('{"format": 9}')
    with pytest.raises(DataError, match="of format 9"):
        PreparedImages(root)


def test_a_set_is_split_or_evaluated_on_a_folder(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "set", SMALL)
    held_out = prepared(tmp_path / "set", "eval", eval_every=4)
    assert [held_out.name(i) for i in range(len(held_out))] == ["0.png", "4.png"]
    assert len(prepared(tmp_path / "set", "train", eval_every=4)) == 6
    other = noise(tmp_path / "other" / "x.png").parent
    assert len(prepared(tmp_path / "set", "train", other)) == 8
    assert prepared(tmp_path / "set", "eval", other).name(0) == "x.png"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_leaks_are_found_and_others_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rescaled and recompressed, mirrored, or left alone: the samples among each other."""
    train, held_out = Samples("train"), Samples("eval")
    folder, kodak = tmp_path / "train", tmp_path / "held_out"
    for where, samples in ((folder, train), (kodak, held_out)):
        where.mkdir()
        for i in range(len(samples)):
            array = samples.pixels(i).permute(1, 2, 0).numpy()
            Image.fromarray(array).save(where / f"{samples.name(i)}.png", compress_level=1)
    assert run(capsys, "data", "prepare", folder, tmp_path / "set", "--workers=1")[0] == 0
    config = (f"data.root={tmp_path / 'set'}", f"data.eval_root={kodak}")
    code, out, _ = run(capsys, "data", "check", "prepared", *config)
    assert code == 0 and "none of 3 evaluation images found among 7" in out
    assert "every byte is what the manifest says" in out

    kodim = Image.open(kodak / "kodim23.png")
    kodim.resize((500, 340)).save(folder / "found_on_the_web.jpg", quality=60)
    Image.fromarray(np.asarray(Image.open(kodak / "monarch.png"))[:, ::-1]).save(folder / "m.png")
    config = (f"data.root={folder}", f"data.eval_root={kodak}")
    code, out, error = run(capsys, "data", "check", "image_folder", *config)
    assert code == 2 and "2 evaluation images leaked" in error
    assert "kodim23.png is training image found_on_the_web.jpg" in out
    assert "monarch.png is training image m.png" in out
