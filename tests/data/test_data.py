"""Images are read rightly or refused clearly, and draw k is the same whoever asks for it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hydra
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lic_train.data import sources
from lic_train.data.datamodule import Batch, ImageDataModule
from lic_train.data.draws import Draws
from lic_train.data.io import images
from lic_train.data.io.images import read_image, shrink
from lic_train.data.io.listing import list_images
from lic_train.data.sets.thumbnails import Thumbnails
from lic_train.data.sources import ImageFolder, ImageSource, Samples
from lic_train.data.transforms import RandomResizedCrop, RandomThumbnail, centre_crop
from lic_train.errors import DataError
from lic_train.experiment.build import instantiate_data
from lic_train.utils.files import write_png

CONF = Path(__file__).parents[2] / "conf"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)  # (H, W, 3)
Array = np.ndarray[Any, Any]


def chw(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def save(path: Path, array: Array = NOISE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def png_16_bit_rgb(path: Path, array: Array, chunks: bytes = b"") -> Path:
    """Pillow cannot write these: uint16 (H, W, 3) as a PNG by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    return path


def refusal(call: Callable[[], object], *words: str) -> str:
    """The text of the DataError that `call` raises: one line that contains the words."""
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


# --- reading: conversions


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm"])
def test_plain_rgb_is_exact_and_has_no_note(tmp_path: Path, extension: str) -> None:
    pixels, note = read_image(save(tmp_path / f"a.{extension}"))
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 20, 30)
    assert torch.equal(pixels, chw(NOISE))
    assert note == ""


def test_greyscale_and_black_and_white_are_repeated(tmp_path: Path) -> None:
    pixels, note = read_image(save(tmp_path / "l.png", NOISE[..., 0]))
    assert torch.equal(pixels, chw(NOISE[..., :1]).expand(3, -1, -1))
    assert note == "greyscale repeated to RGB"
    pixels, note = read_image(save(tmp_path / "1.png", NOISE[..., 0] > 100))
    assert torch.equal(pixels[2] == 255, torch.from_numpy(NOISE[..., 0] > 100))
    assert note == "black-and-white repeated to RGB"


@pytest.mark.parametrize("grey", [False, True])
def test_alpha_is_blended_on_white(tmp_path: Path, grey: bool) -> None:
    array = np.full((2, 3, 2 if grey else 4), 100, np.uint8)
    array[..., -1] = [[0, 51, 255]] * 2
    pixels, note = read_image(save(tmp_path / "a.png", array))
    assert pixels[:, 0].T.tolist() == [[255] * 3, [224] * 3, [100] * 3]  # 255 - 155 * 51 / 255
    assert "alpha blended on white" in note and ("greyscale" in note) == grey


def test_palette_is_expanded_and_its_transparent_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").pixels[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert read_image(tmp_path / "p.png").note == "palette expanded"
    image.save(tmp_path / "t.png", transparency=0)
    pixels, note = read_image(tmp_path / "t.png")
    assert pixels[:, 0].T.tolist() == [[255] * 3, [200, 100, 50]]
    assert note == "palette expanded, alpha blended on white"


def test_cmyk(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(path)
    pixels, note = read_image(path)
    assert pixels[:, 0, 0].tolist() == [0, 255, 255] and note == "CMYK converted to RGB"


@pytest.mark.parametrize("extension", ["png", "tif", "ppm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, extension: str) -> None:
    levels = np.array([[0, 128, 129, 257, 300, 32896, 65535]], np.uint16)
    path = tmp_path / f"a.{extension}"
    if extension == "ppm":
        path.write_bytes(b"P5 7 1 65535\n" + levels.astype(">u2").tobytes())
    else:
        save(path, levels)
    pixels, note = read_image(path)
    assert pixels[0].tolist() == pixels[2].tolist() == [[0, 0, 1, 1, 1, 128, 255]]
    assert note == "16-bit scaled to 8-bit, greyscale repeated to RGB"


def test_16_bit_colour_is_noted(tmp_path: Path) -> None:
    array = NOISE.astype(np.uint16) * 257
    pixels, note = read_image(png_16_bit_rgb(tmp_path / "a.png", array))
    assert torch.equal(pixels, chw(NOISE)) and note == "16-bit reduced to 8-bit"
    (tmp_path / "a.ppm").write_bytes(b"P6 30 20 65535\n" + array.astype(">u2").tobytes())
    pixels, note = read_image(tmp_path / "a.ppm")
    assert torch.equal(pixels, chw(NOISE)) and note == "16-bit reduced to 8-bit"


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("kind", ["colour", "grey", "deep"])
def test_exif_orientation_is_applied(tmp_path: Path, extension: str, kind: str) -> None:
    grey = NOISE[..., 0]
    array = {"colour": NOISE, "grey": grey, "deep": grey.astype(np.uint16) * 257}[kind]
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: rotate clockwise to view
    pixels, note = read_image(save(tmp_path / f"a.{extension}", array, exif=exif))
    assert pixels.shape == (3, 30, 20)
    assert np.array_equal(pixels[0].numpy(), np.rot90(NOISE[..., 0], -1))
    assert "EXIF orientation applied" in note
    exif[0x0112] = 1
    assert "EXIF" not in read_image(save(tmp_path / f"b.{extension}", array, exif=exif)).note


@pytest.mark.parametrize("extension", ["gif", "tif", "png", "webp"])
def test_first_of_several_frames(tmp_path: Path, extension: str) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "lime", "blue")]
    path = tmp_path / f"a.{extension}"
    options: dict[str, Any] = {"lossless": True} if extension == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    pixels, note = read_image(path)
    assert pixels[:, 4, 4].tolist() == [255, 0, 0] and note.startswith("first of 3 frames")


def test_every_pillow_mode_converts_or_is_refused() -> None:
    """White stays white in each mode that is accepted; the table knows no mode by accident."""
    white: dict[str, Any] = {"CMYK": (0,) * 4, "LAB": (255, 128, 128), "HSV": (0, 0, 255)}
    white |= {"YCbCr": (255, 128, 128), "F": 255.0, "RGBX": (255,) * 4}
    white["RGBa"] = (255,) * 4
    accepted = set()
    for mode in (
        *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"),
        *("CMYK", "YCbCr", "LAB", "HSV", "F", "I", "I;16"),
    ):
        image = Image.new("P" if mode == "PA" else mode, (2, 2), white.get(mode, "white"))
        if mode == "PA":
            image = image.convert("PA")
        try:
            rgb, note = images._to_rgb(image)
        except DataError:
            continue
        accepted.add(mode)
        assert rgb.mode == "RGB" and np.array(rgb).min() >= 253, mode
        assert (note == "") == (mode == "RGB"), mode
    assert accepted == images.OPAQUE_MODES.keys() | images.ALPHA_MODES.keys()


# --- reading: refusals


def test_float_and_32_bit_integers_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tif", NOISE[..., 0].astype(np.float32))
    refusal(lambda: read_image(path), str(path), "floating-point")
    path = save(tmp_path / "i.tif", NOISE[..., 0].astype(np.int32))
    refusal(lambda: read_image(path), str(path), "white level")


def test_16_bit_with_transparent_colour_is_refused(tmp_path: Path) -> None:
    data = b"tRNS" + struct.pack(">HHH", 1, 2, 3)
    chunk = struct.pack(">I", 6) + data + struct.pack(">I", zlib.crc32(data))
    path = png_16_bit_rgb(tmp_path / "a.png", NOISE.astype(np.uint16), chunk)
    refusal(lambda: read_image(path), str(path), "transparent")


def test_missing_folder_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    refusal(lambda: read_image(tmp_path / "no.png"), "no.png", "no such file")
    refusal(lambda: read_image(tmp_path), str(tmp_path), "folder")
    (tmp_path / "zero.png").touch()
    refusal(lambda: read_image(tmp_path / "zero.png"), "zero.png", "0 bytes")
    (tmp_path / "text.png").write_text("hello, I am no image " * 9)
    refusal(lambda: read_image(tmp_path / "text.png"), "text.png", "not an image")


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "bmp", "tif", "ppm"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_truncated_files_are_refused(tmp_path: Path, extension: str, share: float) -> None:
    path = save(tmp_path / f"a.{extension}", RNG.integers(0, 256, (99, 99, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refusal(lambda: read_image(path), path.name)


def test_corrupt_bytes_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    refusal(lambda: read_image(path), "a.png", "corrupt")


@pytest.mark.parametrize("limit", [500, 200])  # 600 pixels: Pillow warns, Pillow raises
def test_decompression_bombs_are_refused(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back as it was
    monkeypatch.setenv("LIC_MAX_PIXELS", str(limit))
    refusal(lambda: read_image(path), "a.png", str(limit))


# --- writing and listing


def test_write_png_round_trip_and_arguments(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", chw(NOISE))
    write_png(tmp_path / "a.png", chw(NOISE[::-1]))  # overwrites
    assert torch.equal(read_image(tmp_path / "a.png").pixels, chw(NOISE[::-1]))
    assert os.listdir(tmp_path) == ["a.png"]
    for wrong in (chw(NOISE).float(), chw(NOISE)[:1], chw(NOISE)[None]):
        with pytest.raises(ValueError, match="uint8"):
            write_png(tmp_path / "b.png", wrong)
    missing = tmp_path / "no" / "a.png"
    refusal(lambda: write_png(missing, chw(NOISE), make_folder=False), "no/a.png")


def test_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a.png", chw(NOISE))

    def half_write(self: Path, data: bytes) -> None:
        self.write_text("half")
        raise OSError(28, "No space left on device")

    def no_replace(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_replace)
    refusal(lambda: write_png(tmp_path / "a.png", chw(NOISE[::-1])), "a.png", "No space left")
    assert torch.equal(read_image(tmp_path / "a.png").pixels, chw(NOISE))
    monkeypatch.setattr(Path, "write_bytes", half_write)
    refusal(lambda: write_png(tmp_path / "a.png", chw(NOISE)), "a.png", "No space left")
    assert os.listdir(tmp_path) == ["a.png"]
    assert torch.equal(read_image(tmp_path / "a.png").pixels, chw(NOISE))


def test_list_images_is_recursive_sorted_and_skips_hidden(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.JpEg", "a/b/c.webp", ".hidden.png", ".dir/x.png", "note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert found == ["a/b/c.webp", "a/z.JpEg", "b.PNG"]
    refusal(lambda: list_images(tmp_path / "no"), "no such folder")
    refusal(lambda: list_images(tmp_path / "b.PNG"), "b.PNG", "is a file")
    (tmp_path / "empty").mkdir()
    refusal(lambda: list_images(tmp_path / "empty"), "empty", "no images")


def test_shrink(tmp_path: Path) -> None:
    flat = torch.full((3, 100, 301), 77, dtype=torch.uint8)
    assert shrink(flat, 301) is flat
    small = shrink(flat, 150)
    assert small.shape == (3, 50, 150) and (small == 77).all()
    assert shrink(flat, 1).shape == (3, 1, 1)
    stripes = torch.arange(300).remainder(2).mul(255).to(torch.uint8).expand(3, 100, 300)
    assert ((shrink(stripes, 100)[..., 5:-5].int() - 128).abs() < 45).all()  # antialiased


# --- sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images, each of one colour: image i is 20 i everywhere, sizes differ."""
    for i in range(7):
        save(tmp_path / "photos" / f"{i}.png", np.full((40 + i, 60 - i, 3), 20 * i, np.uint8))
    return tmp_path / "photos"


def names(source: ImageSource) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def test_one_folder_is_split_without_overlap(folder: Path) -> None:
    assert names(ImageFolder(folder)) == [f"{i}.png" for i in range(7)]
    for every in (2, 3, 9):
        train = names(ImageFolder(folder, "train", eval_every=every))
        held_out = names(ImageFolder(folder, "eval", eval_every=every))
        assert held_out == [f"{i}.png" for i in range(0, 7, every)]
        assert sorted(train + held_out) == names(ImageFolder(folder))
    assert names(ImageFolder(folder, "train", limit=2)) == ["1.png", "2.png"]


def test_two_folders_never_overlap(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "other" / "x.png")
    assert names(ImageFolder(folder, "eval", eval_root=tmp_path / "other")) == ["x.png"]
    assert len(ImageFolder(folder, "train", eval_root=tmp_path / "other")) == 7
    save(folder / "held" / "7.png")  # an evaluation folder inside the training folder
    (folder / "link.png").symlink_to(folder / "held" / "7.png")
    train = ImageFolder(folder, "train", eval_root=folder / "held")
    assert names(train) == [f"{i}.png" for i in range(7)]
    assert names(ImageFolder(folder, "eval", eval_root=folder / "held")) == ["7.png"]
    refusal(lambda: ImageFolder(folder, "train", eval_root=folder), "two folders")


def test_folder_refusals(folder: Path, tmp_path: Path) -> None:
    refusal(lambda: ImageFolder(None), "data.root=")
    refusal(lambda: ImageFolder(folder, "test"), "'test'")  # type: ignore[arg-type]
    refusal(lambda: ImageFolder(folder, "train", eval_every=1), "eval_every")
    refusal(lambda: ImageFolder(folder, limit=0), "limit")
    refusal(lambda: ImageFolder(folder, longest_side=0), "longest_side")
    save(tmp_path / "one" / "a.png")
    refusal(lambda: ImageFolder(tmp_path / "one", "train"), "data.eval_root")
    assert len(ImageFolder(tmp_path / "one")) == 1


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(ImageFolder("~/photos")) == 7


def test_nothing_is_decoded_before_it_is_asked_for(folder: Path) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    source = ImageFolder(folder)
    assert source.pixels(2).shape == (3, 42, 58)
    refusal(lambda: source.pixels(3), str(folder / "3.png"))


def test_cache_decodes_once_within_its_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()

    def counting(path: Path) -> images.Picture:
        read[path.name] += 1
        return read_image(path)

    monkeypatch.setattr(sources, "read_image", counting)
    source = ImageFolder(folder, cache_mb=0.015)  # two of about 7.2 kB
    for _ in range(3):
        assert [int(source.pixels(i)[0, 0, 0]) for i in range(7)] == list(range(0, 140, 20))
    assert [read[f"{i}.png"] for i in range(7)] == [1, 1, 3, 3, 3, 3, 3]


def test_longest_side(folder: Path) -> None:
    source = ImageFolder(folder, longest_side=50)
    assert source.pixels(0).shape == (3, 33, 50)  # 40 x 60
    assert ImageFolder(folder, longest_side=60).pixels(0).shape == (3, 40, 60)


def test_samples_are_colour_photographs_and_disjoint() -> None:
    train, held_out = Samples("train"), Samples("eval")
    assert names(held_out) == ["kodim23", "monarch", "chelsea"]
    assert names(train)[:4] == ["astronaut", "coffee", "rocket", "motorcycle_left"]
    assert names(train)[4:] == ["barbara", "sail", "tulips"]
    everything = [source.pixels(i) for source in (train, held_out) for i in range(len(source))]
    assert len({pixels.numpy().tobytes() for pixels in everything}) == 10
    for pixels in everything:
        assert pixels.dtype == torch.uint8 and pixels.shape[0] == 3
        assert min(pixels.shape[1:]) >= 300 and not torch.equal(pixels[0], pixels[2])
    assert held_out.pixels(0).shape == (3, 512, 768)
    assert names(Samples("train", limit=2)) == ["astronaut", "coffee"]


def test_samples_do_not_import_their_packages() -> None:
    code = (
        "import sys; from lic_train.data.sources import Samples; Samples('train').pixels(0);"
        "assert not {'skimage', 'sporco'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONF.parent)


def test_missing_sample_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    refusal(lambda: Samples("train"), "pip install scikit-image")
    refusal(lambda: Samples("eval"), "pip install sporco")
    bare = importlib.util.spec_from_loader("sporco", None, is_package=True)
    assert bare is not None
    bare.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(sources, "find_spec", lambda name: bare)
    refusal(lambda: Samples("eval"), "lacks the sample kodim23.png", "--upgrade")
    refusal(lambda: Samples("test"), "'test'")  # type: ignore[arg-type]


# --- crops


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PHOTO = chw(RNG.integers(0, 256, (90, 140, 3), dtype=np.uint8))


def test_crop_is_a_pure_function() -> None:
    crop = RandomResizedCrop(32)
    state = torch.get_rng_state()
    first = [crop(PHOTO, generator(s)) for s in range(20)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    before = PHOTO.clone()
    channels_last = PHOTO.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for s in reversed(range(20)):
        assert first[s].dtype == torch.uint8 and first[s].shape == (3, 32, 32)
        assert torch.equal(crop(channels_last, generator(s)), first[s])
    assert torch.equal(PHOTO, before)
    assert len({x.contiguous().numpy().tobytes() for x in first}) == 20


def position_image(height: int, width: int) -> Tensor:
    """Channel 0 is the row, channel 1 the column: a crop tells where it comes from."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)


def test_scale_one_is_a_plain_crop_that_reaches_every_place() -> None:
    image = position_image(33, 35)
    crop = RandomResizedCrop(32, min_scale=1, horizontal_flip=False)
    corners = set()
    for s in range(200):
        x = crop(image, generator(s))
        top, left = int(x[0, 0, 0]), int(x[1, 0, 0])
        assert torch.equal(x, image[:, top : top + 32, left : left + 32])
        assert crop.window(33, 35, generator(s)) == (top, left, 32)
        corners.add((top, left))
    assert corners == {(top, left) for top in range(2) for left in range(4)}


def test_sides_are_log_uniform_and_bounded() -> None:
    image = position_image(200, 250)
    crop = RandomResizedCrop(32, min_scale=0.25, horizontal_flip=False)
    sides = []
    for s in range(400):
        x = crop(image, generator(s)).int()
        sides.append(1 + (x[0, -1, 0] - x[0, 0, 0]).item() * 32 / 31)  # a little off at the rim
    assert 30 < min(sides) < 36 and 120 < max(sides) < 132
    assert abs(np.mean(np.log2(sides)) - 6) < 0.1  # halfway between 2^5 and 2^7: 64, not 80
    wide = RandomResizedCrop(32, min_scale=0.01, horizontal_flip=False)
    for s in range(50):  # never larger than the image
        assert int(wide(position_image(40, 250), generator(s))[0].max()) < 40


def test_flips() -> None:
    image = position_image(32, 32)
    crop = RandomResizedCrop(32, min_scale=1, horizontal_flip=True, vertical_flip=True)
    kinds: Counter[tuple[bool, bool]] = Counter()
    for s in range(400):
        x = crop(image, generator(s))
        kinds[bool(x[1, 0, 0] > x[1, 0, -1]), bool(x[0, 0, 0] > x[0, -1, 0])] += 1
    assert len(kinds) == 4 and min(kinds.values()) > 60
    turned = RandomResizedCrop(32, 1, horizontal_flip=True, vertical_flip=True, transpose=True)
    corners = {tuple(turned(image, generator(s))[:2, 0, :2].flatten().tolist()) for s in range(90)}
    assert len(corners) == 8
    upright = RandomResizedCrop(32, min_scale=1)
    assert all(upright(image, generator(s))[0, 0, 0] == 0 for s in range(50))


def test_colours() -> None:
    """Six orders of the channels, brighter and darker, softer and harder; the square as it was."""
    plain, coloured = (
        RandomResizedCrop(32, horizontal_flip=False, colours=c) for c in (False, True)
    )
    orders, contrasts, shifts = set(), [], []
    for seed in range(60):
        before, after = (crop(PHOTO, generator(seed)).float() for crop in (plain, coloured))
        assert after.shape == before.shape and coloured(PHOTO, generator(seed)).dtype == torch.uint8
        fits = []
        for order in itertools.permutations(range(3)):
            x, y = before[list(order)].flatten(), after.flatten()
            inside = (y > 0) & (y < 255)  # not clipped
            both = torch.stack([x[inside], y[inside]])
            slope = torch.cov(both)[0, 1] / torch.cov(both)[0, 0]
            rest = both[1] - both[1].mean() - slope * (both[0] - both[0].mean())
            fits.append((rest.abs().max().item(), slope.item(), order))
        error, slope, order = min(fits)
        assert error < 1.1  # a straight line, up to rounding
        orders.add(order)
        contrasts.append(slope)
        shifts.append((after.mean() - before.mean()).item())
    assert len(orders) == 6
    assert 0.49 < min(contrasts) < 0.7 and 1.0 < max(contrasts) < 1.26
    assert min(shifts) < -10 and max(shifts) > 10


def test_small_images_are_upscaled() -> None:
    x = RandomResizedCrop(64)(chw(NOISE), generator(0))
    assert x.shape == (3, 64, 64)
    assert RandomResizedCrop(64)(PHOTO[:, :1, :1], generator(0)).shape == (3, 64, 64)


def test_crop_refusals_and_centre_crop() -> None:
    refusal(lambda: RandomResizedCrop(0), "size")
    refusal(lambda: RandomResizedCrop(8, min_scale=0), "min_scale")
    refusal(lambda: RandomResizedCrop(8, min_scale=1.1), "min_scale")
    assert torch.equal(centre_crop(PHOTO, 50), PHOTO[:, 20:70, 45:95])
    assert torch.equal(centre_crop(PHOTO, 100), PHOTO[:, :, 20:120])


# --- the stream of draws and the data module


def module(folder: Path, **options: Any) -> ImageDataModule:
    arguments = {"batch_size": 4, "seed": 5, **options}
    train, held_out = ImageFolder(folder, "train"), ImageFolder(folder, "eval")
    return ImageDataModule(train, held_out, RandomResizedCrop(16), **arguments)


def batches(data: ImageDataModule, count: int = 4) -> list[Batch]:
    """The first batches of the endless stream, as a trainer gets them."""
    first = itertools.islice(data.train_dataloader(), count)
    return [data.on_after_batch_transfer(cast(Batch, batch), 0) for batch in first]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return [x.names for x in a] == [x.names for x in b] and all(
        torch.equal(x.x, y.x) for x, y in zip(a, b, strict=True)
    )


def noisy(folder: Path) -> Path:
    """Images of noise, so that equal crops mean equal places."""
    for i in range(7):
        save(folder / f"{i}.png", RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    return folder


def test_batches_are_full_float_and_in_range(folder: Path) -> None:
    save(folder / "1.png", np.full((40, 40, 3), 255, np.uint8))
    out = batches(module(folder))
    assert len(out) == 4
    for batch in out:
        assert isinstance(batch, Batch)
        assert batch.x.shape == (4, 3, 16, 16) and batch.x.dtype == torch.float32
        assert batch.x.is_contiguous() and len(batch.names) == 4
        for x, name in zip(batch.x, batch.names, strict=True):  # each image has one colour
            level = 255 if name == "1.png" else 20 * int(name[0])
            assert torch.equal(x, torch.full_like(x, level / 255))


def test_each_pass_shows_every_image_once(folder: Path) -> None:
    draws = module(folder).draws
    n = len(draws.source)
    passes = [[draws.image_index(p * n + i) for i in range(n)] for p in range(40)]
    assert all(sorted(order) == list(range(n)) for order in passes)
    assert len({tuple(order) for order in passes}) > 10
    assert draws.image_index(3) == passes[0][3]  # going back gives the same


def test_draw_k_is_a_pure_function_of_seed_and_k(folder: Path) -> None:
    data = module(noisy(folder))
    crops = [data.draws[k].pixels.clone() for k in range(30)]
    assert len({x.contiguous().numpy().tobytes() for x in crops}) == 30
    torch.manual_seed(1)
    np.random.seed(1)
    fresh = module(folder).draws
    for k in reversed(range(30)):
        assert torch.equal(fresh[k].pixels, crops[k])
    other = Draws(data.train_source, RandomResizedCrop(16), seed=6)
    assert not any(torch.equal(other[k].pixels, crops[k]) for k in range(30))


def test_workers_change_nothing(folder: Path) -> None:
    alone = batches(module(noisy(folder)), 9)
    assert not same(alone[:4], alone[4:8])
    for workers in (1, 2):
        assert same(batches(module(folder, num_workers=workers), 9), alone)


def test_the_global_generators_are_neither_read_nor_advanced(folder: Path) -> None:
    torch.manual_seed(0)
    first = batches(module(noisy(folder)))
    torch.manual_seed(1)
    torch_state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    data = module(folder)
    assert same(batches(data), first)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert pickle.dumps(np.random.get_state()) == numpy_state


def test_two_ranks_share_the_batches_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = batches(module(noisy(folder), batch_size=4))
    parts = []
    for rank in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(torch.distributed, "is_initialized", lambda: True)
            patch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            patch.setattr(torch.distributed, "get_world_size", lambda: 2)
            parts.append(batches(module(folder, batch_size=2)))
    for whole, first, second in zip(one, *parts, strict=True):
        assert Counter(first.names + second.names) == Counter(whole.names)
        assert torch.equal(torch.stack([first.x, second.x], 1).flatten(0, 1), whole.x)


def test_validation_and_signals(folder: Path) -> None:
    data = module(folder, eval_crop=42)
    out = [data.on_after_batch_transfer(cast(Batch, b), 0) for b in data.val_dataloader()]
    assert [batch.names for batch in out] == [["0.png"], ["3.png"], ["6.png"]]
    assert [tuple(batch.x.shape) for batch in out] == [
        (1, 3, 40, 42),
        (1, 3, 42, 42),
        (1, 3, 42, 42),
    ]
    assert torch.equal(out[2].x, torch.full_like(out[2].x, 120 / 255))
    assert data.on_after_batch_transfer(out[2], 0) is out[2]  # is in [0, 1] already
    signals = list(data.signals())
    assert [signal.name for signal in signals] == ["0.png", "3.png", "6.png"]
    assert signals[1].pixels.shape == (3, 43, 57) and signals[1].pixels.dtype == torch.uint8


def test_data_module_refusals(folder: Path) -> None:
    refusal(lambda: module(folder, batch_size=0), "batch_size")
    refusal(lambda: module(folder, seed=-1), "seed")


def test_a_corrupt_image_names_itself_from_a_worker_too(folder: Path) -> None:
    for i in (1, 2, 4, 5):
        (folder / f"{i}.png").write_bytes(b"junk")
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"[1245]\.png: is not an image"):
            batches(module(folder, num_workers=workers))


class Recorder(LightningModule):
    """Notes what the Trainer feeds it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.seen.append(batch)
        return self.weight * batch.x.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_trainer_that_goes_on_gets_the_batches_it_has_not_had(
    folder: Path, tmp_path: Path, accumulate: int
) -> None:
    def train(steps: int, start: Path | None = None) -> tuple[list[Batch], Trainer]:
        recorder = Recorder()
        trainer = Trainer(
            max_steps=steps,
            accumulate_grad_batches=accumulate,
            accelerator="cpu",
            use_distributed_sampler=False,
            limit_val_batches=0,
            default_root_dir=tmp_path,
            **dict.fromkeys(
                ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"),
                False,
            ),
        )
        trainer.fit(recorder, datamodule=module(folder), ckpt_path=start)
        return recorder.seen, trainer

    noisy(folder)
    whole, _ = train(5)
    assert same(whole, batches(module(folder), 5 * accumulate))
    first, trainer = train(2)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    second, _ = train(5, tmp_path / "x.ckpt")
    assert same(first + second, whole)


# --- conf/data


def compose(*overrides: str) -> Any:
    """`data` alone below a root like that of train.yaml."""
    root = {"defaults": ["_self_", {"data": "samples"}], "seed": 7, "trainer": {"max_steps": 9}}
    store = ConfigStore.instance()
    store.store(name="data_test_root", node=OmegaConf.create(root))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("data_test_root", list(overrides))


def build(*overrides: str) -> ImageDataModule:
    data = instantiate_data(compose(*overrides).data)
    assert isinstance(data, ImageDataModule)
    return data


def test_samples_yaml() -> None:
    data = build("data=samples", "data.crop_size=64", "data.batch_size=3")
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (3, 3, 64, 64) and batch.x.min() < 64 < 128 < batch.x.max()
    assert set(batch.names) <= set(names(Samples("train")))
    assert data.seed == 7
    assert [signal.name for signal in data.signals()] == names(Samples("eval"))


def test_image_folder_yaml(folder: Path, tmp_path: Path) -> None:
    data = build("data=image_folder", f"data.root={folder}", "data.longest_side=30")
    assert next(iter(data.train_dataloader())).x.shape == (16, 3, 256, 256)
    assert max(max(signal.pixels.shape[1:]) for signal in data.signals()) == 30
    assert max(data.train_source.pixels(0).shape[1:]) > 30
    assert names(data.train_source) == [f"{i}.png" for i in (1, 2, 4, 5)]
    data = build("data=image_folder", f"data.root={folder}", "data.train.eval_every=2")
    assert sorted(names(data.train_source) + names(data.eval_source)) == names(ImageFolder(folder))
    save(tmp_path / "other" / "x.png")
    other = tmp_path / "other"
    data = build("data=image_folder", f"data.root={folder}", f"data.eval_root={other}")
    assert len(data.train_source) == 7 and names(data.eval_source) == ["x.png"]


def test_image_folder_yaml_without_a_root_says_so_in_one_line() -> None:
    with pytest.raises(InstantiationException) as caught:
        build("data=image_folder")
    cause = caught.value.__cause__
    assert isinstance(cause, DataError)
    assert str(cause) == "no image folder is given; add data.root=FOLDER"


# --- thumbnails


def test_thumbnails_are_squares_of_every_size() -> None:
    image = position_image(240, 250)
    crop = RandomThumbnail(32, horizontal_flip=False)
    sides = []
    for s in range(400):
        x = crop(image, generator(s)).int()
        assert x.shape == (3, 32, 32)
        sides.append(1 + (x[0, -1, 0] - x[0, 0, 0]).item() * 32 / 31)
    assert 30 < min(sides) < 36 and 232 < max(sides) < 242
    assert abs(np.mean(np.log2(sides)) - np.log2(32 * 240) / 2) < 0.1
    small = position_image(32, 32)
    assert torch.equal(crop(small, generator(0)), small)
    assert crop(chw(NOISE), generator(0)).shape == (3, 32, 32)
    refusal(lambda: RandomThumbnail(32, min_share=0), "min_share")
    refusal(lambda: RandomThumbnail(0), "size")


class Arrays(ImageSource):
    def __init__(self, **arrays: Array) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def name(self, index: int) -> str:
        return list(self.arrays)[index]

    def pixels(self, index: int) -> Tensor:
        return chw(list(self.arrays.values())[index])


def test_the_evaluation_thumbnails_are_a_fixed_grid_of_each_image() -> None:
    tile = NOISE[:8, :8]
    source = Arrays(a=np.tile(tile, (4, 5, 1)), b=tile, c=NOISE[:4, :7])
    grid = Thumbnails(source, 8, (1, 0.5, 0.25, 0.125))
    # a is 32x40: one whole, 2x2 halves, 4x5 quarters; b is ready-made; c is upscaled.
    assert names(grid) == [*(f"a#{k}" for k in range(1 + 4 + 20)), "b#0", "c#0"]
    assert all(grid.pixels(i).shape == (3, 8, 8) for i in range(len(grid)))
    for index in (*range(5, 25), 25):
        assert torch.equal(grid.pixels(index), chw(tile))  # no resampling, no loss
    again = Thumbnails(source, 8)
    assert names(again) == names(grid)
    assert all(torch.equal(again.pixels(i), grid.pixels(i)) for i in range(len(grid)))


def test_a_limit_takes_evenly_from_images_and_grids() -> None:
    large = np.tile(NOISE[:8, :8], (4, 4, 1))
    source = Arrays(a=large, b=large, c=large)
    assert names(Thumbnails(source, 8, limit=6)) == [f"{x}#{k}" for x in "abc" for k in (0, 10)]
    assert names(Thumbnails(source, 8, limit=2)) == ["b#0", "c#0"]
    assert len(Thumbnails(source, 8, limit=99)) == 63
    refusal(lambda: Thumbnails(source, 0), "size")
    refusal(lambda: Thumbnails(source, limit=0), "limit")
    for shares in ((), (0.5, 0), (2,), (float("nan"),)):
        refusal(lambda shares=shares: Thumbnails(source, shares=shares), "shares")


def test_thumbnails_yaml(folder: Path, tmp_path: Path) -> None:
    data = build("data=thumbnails")  # of the samples
    assert next(iter(data.train_dataloader())).x.shape == (32, 3, 32, 32)
    assert len(data.signals()) == 96
    assert {s.name.partition("#")[0] for s in data.signals()} == set(names(Samples("eval")))
    assert {s.pixels.shape for s in data.signals()} == {(3, 32, 32)}
    data = build("data=thumbnails", f"data.root={folder}", "data.eval.limit=null")
    held_out = {name.partition("#")[0] for name in names(data.eval_source)}
    assert held_out == {"0.png"} and not held_out & set(names(data.train_source))
    assert next(iter(data.train_dataloader())).x.shape == (32, 3, 32, 32)
    save(tmp_path / "other" / "x.png")
    data = build("data=thumbnails", f"data.root={folder}", f"data.eval_root={tmp_path / 'other'}")
    assert names(data.eval_source) == ["x.png#0"] and len(data.train_source) == 7
    with pytest.raises(InstantiationException) as caught:
        build("data=thumbnails", f"data.eval_root={folder}")
    assert "without data.root" in str(caught.value.__cause__)


@pytest.mark.parametrize("path", sorted(CONF.glob("data/[!_]*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_says_how_to_use_it(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ") and f"data={path.stem}" in text
