"""``lic``: what it accepts, and the one line it says to everything else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import REPOSITORY, Zoo
from PIL import Image

from lic_train import __version__
from lic_train.cli import _main as cli
from lic_train.codec.export import CONFIG, WEIGHTS, load_codec, ready_copy, save_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.io.images import read_image

Array = np.ndarray
NOISE = np.random.default_rng(0).integers(0, 256, (24, 30, 4), dtype=np.uint8)


@pytest.fixture(scope="session")
def models(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The exports of two models of one kind."""
    folders = tuple(tmp_path_factory.mktemp("model") for _ in range(2))
    for seed, folder in enumerate(folders):
        codec = ready_copy(zoo.build("mean_scale", seed))
        save_codec(folder, codec, zoo.config("mean_scale"), name="mean_scale", lmbda=0.01)
    return folders[0], folders[1]


@pytest.fixture
def model(models: tuple[Path, Path]) -> Path:
    return models[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, but for ``image.png``."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(NOISE[..., :3]).save("image.png")
    return tmp_path


def lic(*arguments: str | Path) -> None:
    cli.main([str(argument) for argument in arguments])


class Refuses:
    """Runs a command that must end in one line and exit code 2, and leave no file behind."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, *arguments: str | Path, words: str) -> None:
        before = sorted(Path.cwd().rglob("*"))
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            lic(*arguments)
        captured = self.capfd.readouterr()
        lines = captured.err.splitlines()
        assert caught.value.code == 2 and captured.out == ""
        assert len(lines) == 1 and lines[0].startswith("lic: error: "), captured.err
        assert words in lines[0]
        assert sorted(Path.cwd().rglob("*")) == before


@pytest.fixture
def refuses(capfd: pytest.CaptureFixture[str], here: Path) -> Refuses:
    return Refuses(capfd)


# --- what works


def test_there_and_back(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lic("compress", "image.png", "image.lic", "--model", model)
    size = Path("image.lic").stat().st_size
    out, err = capsys.readouterr()
    assert out == f"image.lic: {size} bytes, {8 * size / 720:.4f} bpp, 30x24\n" and err == ""
    lic("decompress", "image.lic", "decoded.png", "--model", model)
    assert capsys.readouterr() == ("decoded.png: 30x24\n", "")
    x = read_image("image.png").pixels[None].float() / 255
    with torch.no_grad():
        (expected,) = load_codec(model)(x)
    assert torch.equal(read_image("decoded.png").pixels, to_uint8(expected.x_hat[0]))
    assert sorted(path.name for path in here.iterdir()) == ["decoded.png", "image.lic", "image.png"]


def test_a_file_of_ours_is_replaced_and_no_other(here: Path, model: Path, refuses: Refuses) -> None:
    coding = ("compress", "image.png", "image.lic", "--model", model, "--rate", "0")
    decoding = ("decompress", "image.lic", "decoded.png", "--model", model)
    for command in (coding, decoding):
        Path(command[2]).write_bytes(b"old" * 1000)
        refuses(*command, words=f"{command[2]} exists and lic_train did not write it")
        assert Path(command[2]).read_bytes() == b"old" * 1000
        lic(*command, "--force")
        lic(*command)
    assert read_image("decoded.png").pixels.shape == (3, 24, 30)
    before = Path("image.png").read_bytes()
    refuses("compress", "image.png", "image.png", "--model", model, words="is the input itself")
    refuses(*coding[:2], "./image.png", *coding[3:], "--force", words="is the input itself")
    assert Path("image.png").read_bytes() == before


KINDS: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "grey.png": (lambda: Image.fromarray(NOISE[..., 0]), "greyscale"),
    "alpha.png": (lambda: Image.fromarray(NOISE), "alpha blended on white"),
    "deep.png": (lambda: Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "16-bit"),
    "palette.png": (lambda: Image.fromarray(NOISE[..., :3]).quantize(16), "palette"),
    "photo.jpg": (lambda: Image.fromarray(NOISE[..., :3]), ""),
    "one.png": (lambda: Image.fromarray(NOISE[:1, :1, :3]), ""),
    "line.png": (lambda: Image.fromarray(NOISE[:1, :, :3]), ""),
}


@pytest.mark.parametrize("name", KINDS)
def test_any_image_is_coded_with_a_word_on_what_was_converted(
    name: str, here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, word = KINDS[name][0](), KINDS[name][1]
    image.save(name)
    lic("compress", name, "x.lic", "--model", model)
    err = capsys.readouterr().err
    assert (err.startswith(f"{name}: ") and word in err) if word else err == ""
    lic("decompress", "x.lic", "x.png", "--model", model)
    assert Image.open("x.png").size == image.size and Image.open("x.png").mode == "RGB"


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = (
        "import sys; from lic_train.cli import _main as cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'pytorch_lightning'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"lic_train {__version__}\n"


@pytest.mark.parametrize(
    "arguments", ["", "nonsense", "compress a b", "compress a b --model m --rate x", "evaluate m"]
)
def test_a_wrong_command_shows_its_usage(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        lic(*arguments.split())
    assert caught.value.code == 2 and "usage: lic" in capsys.readouterr().err


# --- the model


@pytest.mark.parametrize("command", ["compress image.png x", "decompress x.lic x.png", "evaluate"])
def test_a_model_that_is_none(command: str, refuses: Refuses, model: Path, here: Path) -> None:
    Path("x.lic").write_bytes(b"")
    if not command.startswith("decompress"):  # there the stream is looked at first
        Path("folder").mkdir()
    else:
        lic("compress", "image.png", "x.lic", "--model", model)

    def refused(directory: str | Path, words: str) -> None:
        if command == "evaluate":
            refuses("evaluate", directory, "--data", ".", "--out", "new", words=words)
        else:
            refuses(*command.split(), "--model", directory, words=words)

    refused("missing", "missing is no run directory")
    refused("image.png", "image.png is no run directory")
    for name in ("unfinished", "weightless", "damaged", "odd", "evil", "other"):
        shutil.copytree(model, name)
    Path("unfinished", CONFIG).unlink()
    refused("unfinished", f"unfinished holds no {CONFIG}")
    if command == "evaluate":
        return  # what follows is found by the same function, after it has made its folder
    Path("weightless", WEIGHTS).unlink()
    refused("weightless", f"{WEIGHTS} is missing")
    weights = Path("damaged", WEIGHTS)
    weights.write_bytes(weights.read_bytes()[:-100])
    refused("damaged", f"{WEIGHTS} is damaged")
    Path("odd", CONFIG).write_text("model: [1, 2\n")
    refused("odd", f"{CONFIG} cannot be read")
    Path("odd", CONFIG).write_text("about: {}\n")
    refused("odd", f"{CONFIG} holds no model")
    text = Path(model, CONFIG).read_text()
    target = "lic_train.modules.codecs.mean_scale.MeanScale"
    Path("evil", CONFIG).write_text(text.replace(target, "subprocess.Popen"))
    refused("evil", "subprocess.Popen, which is none of this package's codecs and layers: refused")
    Path("evil", CONFIG).write_text(text.replace(target, "torch.nn.Identity"))
    refused("evil", "names torch.nn.Identity, which is none of this")
    Path("evil", CONFIG).write_text(text.replace(target, "nowhere.Codec"))
    refused("evil", "nowhere.Codec, which is none of this")
    assert "M: 16" in text
    Path("other", CONFIG).write_text(text.replace("M: 16", "M: 20"))
    refused("other", f"{WEIGHTS} does not fit")


def test_a_rate_or_a_device_that_is_not_there(refuses: Refuses, model: Path) -> None:
    compress = ("compress", "image.png", "x.lic", "--model", model)
    for rate in ("1", "-2", "99"):
        refuses(*compress, "--rate", rate, words=f"rate {rate} asked for, the codec has 0 ... 0")
    devices = ["nonsense", "meta"] + ([] if torch.cuda.is_available() else ["cuda", "cuda:1"])
    for device in devices:
        refuses(*compress, "--device", device, words=f"no device '{device}' here")
    evaluate = ("evaluate", model, "--data", ".", "--out", "new", "--device", "nonsense")
    refuses(*evaluate, words="no device 'nonsense' here")


def test_targets(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lic("compress", "image.png", "plain.lic", "--model", model)
    for target in (("--target-bpp", "50"), ("--target-psnr", "1")):
        lic("compress", "image.png", "image.lic", "--model", model, *target)
        assert Path("image.lic").read_bytes() == Path("plain.lic").read_bytes()


def test_targets_that_cannot_be_met(refuses: Refuses, model: Path) -> None:
    compress = ("compress", "image.png", "x.lic", "--model", model)
    refuses(*compress, "--target-bpp", "0.001", words="meets 0.001 bpp: the nearest is rate 0 with")
    refuses(*compress, "--target-psnr", "99", words="meets 99 dB: the nearest is rate 0 with")
    for option in ("--target-bpp", "--target-psnr"):
        for target in ("0", "-1", "nan", "inf"):
            refuses(*compress, f"{option}={target}", words="give a number above 0")
    for rate in ("nan", "inf", "-0.5"):
        refuses(*compress, f"--rate={rate}", words=f"rate {rate} asked for")


@pytest.mark.parametrize(
    "options", ["--rate 0 --target-bpp 1", "--target-bpp 1 --target-psnr 30", "--target-bpp x"]
)
def test_one_target_at_a_time(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        lic(*"compress a b --model m".split(), *options.split())
    assert caught.value.code == 2 and "usage: lic" in capsys.readouterr().err


def test_reencode(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lic("reencode", model, "--data", ".", "--out", "new", "--rounds", "3", "--eight-bit")
    out = capsys.readouterr().out
    assert "mean_scale 8-bit" in out and "mean_scale float" not in out and "jpeg 8-bit" in out
    assert len(Path("new/generations.csv").read_text().splitlines()) == 1 + 2 * 3
    assert Path("new/figures/generations.png").is_file()


def test_reencode_refuses_before_it_writes(refuses: Refuses, model: Path) -> None:
    Path("empty").mkdir()
    out = ("--out", "new")
    refuses("reencode", "none", "--data", ".", *out, words="none is no run directory")
    refuses("reencode", model, "--data", "none", *out, words="no such folder")
    refuses("reencode", model, "--data", "empty", *out, words="holds no images")
    refuses("reencode", model, "--data", ".", *out, "--rounds", "0", words="rounds is 0")
    refuses("reencode", model, "--data", ".", *out, "--mixed", words="nothing to mix")
    refuses("reencode", model, "--data", ".", *out, "--rate", "3", words="rate 3 asked for")


# --- images, streams and folders


def test_images_that_are_none(refuses: Refuses, model: Path, here: Path) -> None:
    Path("empty.png").write_bytes(b"")
    Path("junk.png").write_bytes(b"junk")
    Path("cut.png").write_bytes(Path("image.png").read_bytes()[:600])
    cases = {
        "missing.png": "missing.png: no such file",
        "empty.png": "empty.png: is empty (0 bytes)",
        "junk.png": "junk.png: is not an image",
        "cut.png": "cut.png: is corrupt or truncated",
        ".": "is a folder",
    }
    for name, words in cases.items():
        refuses("compress", name, "x.lic", "--model", model, words=words)


def test_streams_that_are_not_of_this_model(
    refuses: Refuses, models: tuple[Path, Path], here: Path
) -> None:
    lic("compress", "image.png", "x.lic", "--model", models[0])
    whole = Path("x.lic").read_bytes()

    def refused(data: bytes, words: str, model: Path = models[0]) -> None:
        Path("y.lic").write_bytes(data)
        refuses("decompress", "y.lic", "y.png", "--model", model, words=f"y.lic: {words}")

    refused(b"", "the file is empty")
    refused(Path("image.png").read_bytes(), "not a lic_train stream")
    for end in (2, 5, 11, len(whole) // 2, len(whole) - 1):
        refused(whole[:end], "the stream was cut short or altered")
    for position in (3, 5, 12, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        altered = bytearray(whole)
        altered[position] ^= 1
        refused(bytes(altered), "the stream was cut short or altered")
    refused(whole + b"!", "the stream was cut short or altered")
    refused(whole, "the stream was made by other weights", models[1])
    refuses("decompress", "no.lic", "y.png", "--model", models[0], words="no.lic cannot be read")


def test_outputs_that_cannot_be_written(refuses: Refuses, model: Path, here: Path) -> None:
    lic("compress", "image.png", "x.lic", "--model", model)
    Path("folder.png").mkdir()
    for file in ("missing/x.lic", "image.png/x.lic", "folder.png"):
        refuses("compress", "image.png", file, "--model", model, words=f"{file} cannot be written")
    cases = {
        "missing/x.png": "cannot be written",
        "folder.png": "cannot be written",
        "image.png/x.png": "cannot be written",
        "x.jpg": "x.jpg must end in .png",
        "x": "x must end in .png",
    }
    for name, words in cases.items():
        refuses("decompress", "x.lic", name, "--model", model, words=words)


def test_evaluate_refuses_before_it_writes(refuses: Refuses, model: Path, here: Path) -> None:
    Path("empty").mkdir()
    for data, words in (("missing", "no such folder"), ("empty", "holds no images")):
        refuses("evaluate", model, "--data", data, "--out", "new", words=words)


def test_a_real_process_ends_the_same_way(here: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lic_train.cli._main",
            "compress",
            "image.png",
            "x",
            "--model",
            "nowhere",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        timeout=300,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "lic: error: nowhere is no run directory: give the folder a training run made"
    ]
