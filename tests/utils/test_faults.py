"""Whatever a user gets wrong in a training command is one line on stderr and exit code 2."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import wandb
from helpers.zoo import REPOSITORY, SHRUNK
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from PIL import Image

from lic_train import __main__ as train
from lic_train.errors import DataError, LicError
from lic_train.utils.configs import config_dir
from lic_train.utils.faults import describe, one_line

pytestmark = pytest.mark.filterwarnings("ignore")
EDIC = OmegaConf.load(Path(config_dir()) / "model" / "edic.yaml")
# So small that a case which is not refused ends soon.
SMALL = [
    "model=edic",
    "debug=fast",
    "logger=csv",
    "data.crop_size=64",
    "data.eval_crop=64",
    *(f"model.{key}={SHRUNK[key]}" for key in EDIC if key in SHRUNK),
]
FOLDER = ["data=image_folder", "data.crop_size=64"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: ``empty`` and ``corrupt``, where every training image is junk."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("corrupt").mkdir()
    for i in range(4):
        Image.new("RGB", (70, 70)).save(f"corrupt/{i}.png")
    for i in (1, 2):
        Path(f"corrupt/{i}.png").write_bytes(b"junk")
    Path("half").mkdir()
    for name in ("a", "b"):
        Image.effect_noise((300, 300), 50).save(f"half/{name}.png")
    data = Path("half/b.png").read_bytes()
    Path("half/b.png").write_bytes(data[: len(data) // 2])
    return tmp_path


def refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *overrides: str
) -> str:
    """The one line of a training command in this process, which must leave nothing that coding,
    or another run, could take for the result of one."""
    run = Path("run")
    monkeypatch.setattr(sys, "argv", ["lic_train", *overrides, f"hydra.run.dir={run}"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # main sets it: put it back afterwards
    with pytest.raises(SystemExit) as caught:
        train.main()
    lines = capfd.readouterr().err.strip().splitlines()
    assert caught.value.code == 2
    assert len(lines) == 1 and lines[0].startswith("lic_train: error: "), lines
    left = {path.name for path in run.rglob("*")}
    assert not left & {"last.ckpt", "best.ckpt", "model.yaml", "model.safetensors", "rd_points.csv"}
    assert not [name for name in left if name.endswith(".tmp")]
    return lines[0].removeprefix("lic_train: error: ")


CASES: dict[str, tuple[list[str], str]] = {
    # what Hydra finds
    "experiment": (["experiment=nope", *SMALL], "no experiment called 'nope': choose from "),
    "debug": ([*SMALL[2:], "debug=fats"], "no debug called 'fats': choose from fast"),
    "model": ([*SMALL[1:], "model=vtm"], "no model called 'vtm': choose from "),
    "key": ([*SMALL, "model.depth=3"], "no key 'model.depth' in the config"),
    "near": ([*SMALL, "lmbd=0.1"], "no key 'lmbd' in the config (did you mean lmbda"),
    "lambda": ([*SMALL, "lambda=0.1"], "(did you mean lmbda?)"),
    "nearly": (["experiment=edicc", *SMALL], "did you mean edic"),
    "added": ([*SMALL, "+lmbd=0.1"], "nothing uses +lmbd: did you mean lmbda"),
    "added in a node": ([*SMALL, "+ranks.size=3"], "nothing uses +ranks.size"),
    "group": ([*SMALL, "codec=edic"], "no key 'codec' in the config"),
    "syntax": ([*SMALL, "model.N=[1,"], "[1,"),
    "no value": ([*SMALL, "lmbda"], "lmbda"),
    "interpolation": ([*SMALL, "name=${nothing}"], "'nothing' not found"),
    "not given": ([*SMALL, "model.M=???"], "model.M"),
    "no class": ([*SMALL, "model._target_=lic_train.Nothing"], "lic_train.Nothing"),
    # what constructors refuse
    "lmbda": ([*SMALL, "lmbda=-1"], "lmbda is -1: give a number above 0"),
    "lmbda word": ([*SMALL, "lmbda=high"], "lmbda is 'high': give a number"),
    "gmm_k": ([*SMALL, "model.gmm_k=0"], "model: gmm_k is 0"),
    "metric": ([*SMALL, "loss.metric=psnr"], "loss.metric is 'psnr': give 'mse' or 'ms_ssim'"),
    "argument": ([*SMALL, "+model.depth=3"], "model: EDIC.__init__() got an unexpected"),
    "trainer": ([*SMALL, "trainer.max_steps=-5"], "trainer.max_steps is -5: give 1 or more"),
    "precision": ([*SMALL, "trainer.precision=9"], "trainer: Precision '9' is invalid"),
    "devices": (
        [*SMALL, "trainer.accelerator=cpu", "trainer.devices=0"],
        "trainer: `Trainer(devices=0)`",
    ),
    "seed": ([*SMALL, "seed=-1"], "seed is -1: give a number from 0 to 4294967295"),
    "batch": ([*SMALL, "data.batch_size=0"], "data.batch_size is 0: give 1 or more"),
    # what is met later, but before anything long
    "no steps": ([*SMALL, "trainer.max_steps=0"], "trainer.max_steps is 0: give 1 or more"),
    "endless": ([*SMALL, "trainer.max_steps=-1"], "trainer.max_steps is -1: give 1 or more"),
    "lr": (
        [*SMALL, "optimizer=adam", "optimizer.net.lr=-1"],
        "net.lr is -1: give a number from 0",
    ),
    "optimizer": ([*SMALL, "optimizer=adam", "+optimizer.net.speed=1"], "argument 'speed'"),
    "ms_ssim": ([*SMALL, "loss=ms_ssim"], "set data.crop_size=192 or larger"),
    # Rows of field_faults.md: each was a traceback, the last one after the training.
    "workers": ([*SMALL, "data.num_workers=-1"], "data.num_workers is -1: give 0 or more"),
    "float batch": ([*SMALL, "data.batch_size=2.0"], "data.batch_size is 2.0: give a whole number"),
    "float crop": ([*SMALL, "data.crop_size=64.5"], "data.crop.size is 64.5: give a whole number"),
    "never": ([*SMALL, "trainer.val_check_interval=0"], "val_check_interval is 0: give a number"),
    "sums": (
        [*SMALL, "+trainer.accumulate_grad_batches=0"],
        "grad_batches is 0: give 1",
    ),
    "images": ([*SMALL, "evaluation.save_images=null"], "save_images is None: give a whole number"),
    "infinite": ([*SMALL, "lmbda=inf"], "lmbda is inf: give a finite number"),
    "yes": ([*SMALL, "data.pin_memory=1"], "data.pin_memory is 1: give true or false"),
    "grammar": ([*SMALL, "data.root=照片"], "has to be quoted: \"data.root='照片'\""),
    "equals": ([*SMALL, "data.root=a=b"], "has to be quoted: \"data.root='a=b'\""),
    "device": ([*SMALL, "evaluation.device=abacus"], "no device 'abacus' here"),
    "run_dir": ([*SMALL, "run_dir=corrupt/0.png/x"], "0.png/x: Not a directory"),
    # data
    "no root": ([*SMALL, *FOLDER], "no image folder is given; add data.root=FOLDER"),
    "missing": ([*SMALL, *FOLDER, "data.root=no"], "no: no such folder"),
    "empty": ([*SMALL, *FOLDER, "data.root=empty"], "empty: holds no images"),
    "eval": ([*SMALL, *FOLDER, "data.root=corrupt", "data.eval_root=no"], "no: no such folder"),
    "corrupt": ([*SMALL, *FOLDER, "data.root=corrupt"], ".png: is not an image"),
    "worker": ([*SMALL, *FOLDER, "data.root=corrupt", "data.num_workers=1"], ".png: is not"),
    "cut": ([*SMALL, *FOLDER, "data.root=half"], "b.png: is corrupt or truncated"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refused_setting_is_one_line(
    case: str,
    folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    overrides, words = CASES[case]
    assert words in refused(monkeypatch, capfd, *overrides)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = refused(monkeypatch, capfd, *SMALL, "evaluation.device=cuda")
    assert "no device 'cuda' here: give cpu" in line
    line = refused(monkeypatch, capfd, *SMALL, "trainer.accelerator=cuda")
    assert line.startswith("trainer: ")


def test_a_real_process_ends_the_same_way(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lic_train", "lmbda=-1", f"hydra.run.dir={tmp_path / 'run'}"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lic_train: error: lmbda is -1"), lines


# --- the line itself


def failing(error: Exception, cause: Exception | None = None) -> Callable[[], None]:
    def fail() -> None:
        raise error from cause

    return fail


def instantiation(cause: Exception) -> Callable[[], None]:
    text = f"Error in call to target 'a.B':\n{cause!r}\nfull_key: model.base"
    return failing(InstantiationException(text), cause)


ROOM = "make room and give the same command again"


def test_faults_of_the_input_are_told() -> None:
    for fail, line in (
        (failing(DataError("no\nsuch   image")), "no such image"),
        (failing(RuntimeError("x"), LicError("inner")), "inner"),
        (instantiation(DataError("no image")), "no image"),
        (instantiation(ValueError("N is 0")), "model.base: N is 0"),
        (instantiation(TypeError("no N")), "model.base: no N"),
        (failing(HydraException("two\nlines")), "two lines"),
        (failing(PermissionError(13, "Permission denied", "x.png")), "x.png: Permission denied"),
        (failing(RuntimeError("x"), OSError(28, "disk full")), f"disk full: {ROOM}"),
    ):
        with pytest.raises(Exception) as caught:
            fail()
        assert describe(caught.value) == line


def test_bugs_keep_their_trace(capsys: pytest.CaptureFixture[str]) -> None:
    for bug in (
        failing(ValueError("a bug")),
        failing(KeyError("a bug")),
        failing(OSError("without a file")),
        instantiation(AttributeError("a bug in a constructor")),
    ):
        with pytest.raises(Exception) as caught, one_line("lic"):
            bug()
        assert not isinstance(caught.value, SystemExit)
    assert capsys.readouterr().err == ""


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, one_line("lic"):
        raise DataError("no image")
    assert caught.value.code == 2 and capsys.readouterr().err == "lic: error: no image\n"
    with pytest.raises(SystemExit) as caught, one_line("lic"):
        raise KeyboardInterrupt
    assert caught.value.code == 130 and capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError), one_line("lic", traces=True):
        raise DataError("whoever asked for the trace gets it")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("No API key configured. Use `wandb login` to log in.", "offline=true"),
        ("Invalid project name 'codecs/edic': cannot contain '/'", "Invalid project name"),
        ("Run ID cannot contain the characters: :;,#?/'", "Run ID cannot contain"),
    ],
)
def test_what_weights_and_biases_refuses_is_one_line(error: str, line: str) -> None:
    said = describe(wandb.errors.UsageError(error))
    assert said is not None and said.startswith("W&B: ") and line in said
    assert "\n" not in said
    assert ("wandb login`, or give" in said) == ("API key" in error)


HARD = "= , ( ) { } [ ] : # ' \" \\ $ ` ! ~ & | ; < > * ? % @ ^ é 照 +".split()


@pytest.mark.parametrize("character", [*HARD, " ", "${", "=,()"])
def test_what_hydra_cannot_take_is_answered_with_what_it_can(character: str) -> None:
    """Either Hydra takes the argument as it is, or our line tells one that means the same."""
    value = f"x{character}y"
    parser = OverridesParser.create()
    try:
        (parsed,) = parser.parse_overrides([f"data.root={value}"])
        if parsed.is_sweep_override() or parsed.value() != value:
            return  # another meaning, that of the grammar
    except OverrideParseException as error:
        said = describe(error)
        assert said is not None and "has to be quoted: " in said
        (word,) = shlex.split(said.rpartition("has to be quoted: ")[2])
        (parsed,) = parser.parse_overrides([word])
    assert str(parsed.value()).replace("\\\\", "\\") == value
