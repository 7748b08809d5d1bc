"""A fuzz of the kinds of faults that people of this field have met elsewhere; minutes, with fixed
seeds: pytest -m slow tests/test_field_faults.py -s"""

from __future__ import annotations

import io
import os
import random
import shlex
import string
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import SHRUNK_EDIC
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from lic_train import __main__ as train
from lic_train.cli import _main as cli
from lic_train.data.io.images import decode_image
from lic_train.data.sources import ImageFolder
from lic_train.errors import LicError
from lic_train.experiment import identity
from lic_train.experiment.build import compose
from lic_train.experiment.run_folder import claimed
from lic_train.utils.configs import typed
from lic_train.utils.faults import describe

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RUN = ["experiment=edic_gmm", "debug=fast", "data.crop_size=64", "data.eval_crop=64", "logger=csv"]
RUN += [*SHRUNK_EDIC, "trainer.accelerator=cpu"]


def noise(side: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    cfg, _ = compose([*RUN, f"hydra.run.dir={folder}"])
    from lic_train.experiment.run import run as train_it

    return train_it(cfg)


def test_200_file_names(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are coded, by folder and one by one, and none of them is changed."""
    draw = random.Random(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    alphabet = [c.encode() for c in string.printable if c not in "/\0"]
    alphabet += ["é".encode(), "照".encode(), "\u202e".encode(), b"\xff", b"\xe9", b"\x80"]
    wanted: dict[bytes, bytes] = {}
    while len(wanted) < 200:
        name = b"".join(draw.choices(alphabet, k=draw.choice([1, 3, 8, 40, 180])))[:240]
        if name.startswith(b"."):
            continue
        path = os.path.join(os.fsencode(folder), name + b".png")
        noise(16 + len(wanted) % 5).save(os.fsdecode(path))
        wanted[path] = Path(os.fsdecode(path)).read_bytes()
    source = ImageFolder(folder)
    assert len(source) == len({source.name(i) for i in range(200)}) == 200
    cli.main(["evaluate", str(run), "--data", str(folder), "--out", str(tmp_path / "out")])
    assert len((tmp_path / "out" / "rd_points.csv").read_bytes().splitlines()) > 200
    parser = OverridesParser.create()
    for path in list(wanted)[:200]:
        text = os.fsdecode(path)
        if any(ord(c) < 32 for c in text) or any("\ud800" <= c <= "\udfff" for c in text):
            continue
        (word,) = shlex.split(typed("data.root", text))
        assert parser.parse_overrides([word])[0].value() == text
    assert all(Path(os.fsdecode(path)).read_bytes() == data for path, data in wanted.items())


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def test_200_images_with_random_metadata() -> None:
    """Good pixels are never refused, and never others than those of the plain file."""
    draw = random.Random(1)
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME"]
    kinds += [b"eXIf", b"sPLT", b"hIST", b"bKGD", b"abCd", b"sBIT", b"vpAg", b"caBX"]
    for number in range(200):
        picture = noise(12 + number % 9)
        format = ("PNG", "PNG", "JPEG", "WEBP")[number % 4]
        plain, odd = io.BytesIO(), io.BytesIO()
        options = {"lossless": True} if format == "WEBP" else {}
        picture.save(plain, format=format, **options)
        junk = b"Exif\0\0" + draw.choice([b"II*\0", b"MM\0*", b""]) + draw.randbytes(40)
        if format == "PNG":
            data = plain.getvalue()
            at = data.index(b"IDAT") - 4
            more = b""
            for kind in draw.sample(kinds, 3):
                body = draw.choice(
                    [b"", draw.randbytes(9), b"key\0\0" + zlib.compress(bytes(2**21))]
                )
                more += chunk(kind, body)
            odd.write(data[:at] + more + data[at:])
        else:
            icc = draw.choice([None, draw.randbytes(200)])
            picture.save(odd, format=format, exif=junk, icc_profile=icc, **options)
        whole = decode_image(plain.getvalue(), "plain").pixels
        decoded = decode_image(odd.getvalue(), f"image {number}").pixels
        # An orientation that the junk happens to say is one.
        assert decoded.numel() == whole.numel()
        assert torch.equal(decoded, whole) or format != "PNG"


NUMBERS = ["-1", "0", "1.5", "-3.7", "1e30", "inf", "nan", "null", "true", "'7'", "seven", "[1,2]"]
KEYS = """seed lmbda look_every data.batch_size data.num_workers data.crop_size data.eval_crop
data.late_scale data.late_share data.train.limit data.train.cache_mb data.eval.limit
data.crop.min_scale data.pin_memory trainer.max_steps trainer.val_check_interval
trainer.log_every_n_steps trainer.num_sanity_val_steps optimizer.net.lr
optimizer.net.adam_lr optimizer.aux.lr scheduler.warmup module.clip_norm module.aux_clip_norm
evaluation.save_images callbacks.checkpoint.every_n_steps model.N model.M model.gmm_k
model.start_lmbda +trainer.accumulate_grad_batches +trainer.limit_val_batches
+trainer.gradient_clip_val data.longest_side""".split()


def test_100_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused in one line before anything is written, or the run ends with its table."""
    draw, refused, trained = random.Random(2), 0, 0
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    pairs = draw.sample([(key, value) for key in KEYS for value in NUMBERS], 100)
    for number, (key, value) in enumerate(pairs):
        folder = tmp_path / str(number)
        words = [*RUN, f"{key}={value}", f"hydra.run.dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["lic_train", *words])
        monkeypatch.setattr(train, "TRACES", False)
        HydraConfig.instance().cfg = None
        try:
            train.main()
            trained += 1
            assert (folder / "rd_points.csv").is_file(), (key, value)
        except SystemExit as end:
            lines = [li for li in capsys.readouterr().err.splitlines() if "error: " in li]
            assert end.code == 2 and len(lines) == 1, (key, value, lines)
            assert not (folder / "model.safetensors").exists(), (key, value)
            refused += 1
        except Exception as error:
            raise AssertionError(f"{key}={value}: {error!r}") from error
    print(f"{refused} refused in one line, {trained} trained")
    assert refused > 50


RECORDS = ("run.lock", "run.json")
CHANGES = """\
lmbda=0.5 seed=7 model.N=9 model.M=17 model.gmm_k=2 model.start=random data.batch_size=3
data.crop_size=96 data.eval_crop=96 data.late_scale=1 data.late_share=0.5 data.train.limit=2
data.eval.limit=1 data.crop.min_scale=0.9 data.crop.transpose=true data.corrupt=fail
data.small=skip optimizer.net.lr=0.01 optimizer.net.adam_lr=0.02 optimizer.aux.lr=0.2
scheduler.warmup=1 optimizer=adam scheduler=constant loss=mse_fast module.clip_norm=3
module.channels_last=false evaluation.anchors=[webp] name=other freeze=[g_a] callbacks=ema
data.train.longest_side=100 model.start_lmbda=0.1 model.quantise=ste
data.crop.horizontal_flip=false data.steps=9 scheduler.steps=9 trainer.precision=32-true
data=thumbnails model=mean_scale
""".split()


def test_50_pairs_of_a_run_and_a_changed_setting(run: Path) -> None:
    """Another run is refused; only what changes no result, or is said, goes on."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    draw, silent = random.Random(3), []
    cases = [[change] for change in CHANGES]
    cases += [draw.sample(CHANGES, 2) for _ in range(50 - len(cases) + 8)]
    tried = changed = 0
    own = identity.settings(OmegaConf.load(run / "config.yaml"))
    for change in cases:
        try:
            cfg, _ = compose([*RUN, *change, f"hydra.run.dir={run}"])
        except Exception as error:
            assert describe(error), change
            continue
        tried += 1
        if identity.settings(OmegaConf.to_container(cfg, resolve=True)) == own:
            continue  # what the run had anyway
        changed += 1
        try:
            with claimed(cfg):
                silent.append(change)
        except LicError as error:
            assert "\n" not in str(error)
    print(f"{tried} pairs, {changed} with another setting, let through: {silent}")
    assert tried >= 50
    # What a step is made of is said where the checkpoint is read; other anchors change no weight.
    allowed = {"data.batch_size=3", "evaluation.anchors=[webp]"}
    assert all(set(change) <= allowed for change in silent), silent
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {p: d for p, d in after.items() if p.name not in RECORDS} == {
        p: d for p, d in before.items() if p.name not in RECORDS
    }
