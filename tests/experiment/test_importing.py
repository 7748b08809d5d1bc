"""Checkpoints of other programs become runs that code what their own program codes, or one line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from compressai.utils.eval_model.__main__ import inference
from compressai.zoo import load_state_dict
from helpers.zoo import Zoo
from safetensors.torch import save_file
from torch import nn

from lic_train.cli import _main as cli
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.checkpoint import read_checkpoint
from lic_train.codec.export import load_codec, load_weights, read_about
from lic_train.codec.signal import to_uint8
from lic_train.errors import ModelError
from lic_train.experiment.importing import import_checkpoint
from lic_train.modules.codecs.base.architectures import build_architecture
from lic_train.modules.codecs.compressai import CompressAICodec
from lic_train.rd import metrics

ARCH = "mbt2018-mean"
State = dict[str, Any]


@pytest.fixture(scope="module")
def state(zoo: Zoo) -> State:
    """As CompressAI saves a network that was trained: 8 and 16 channels, tables of its own."""
    codec = zoo.trained("compressai")
    assert isinstance(codec, CompressAICodec)
    codec.net.update(scale_table=torch.linspace(0.2, 90, 31).tolist(), force=True)
    return dict(codec.net.state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def ema(state: State) -> State:
    """As ``torch.optim.swa_utils.AveragedModel`` keeps it."""
    half = {k: v / 2 if v.is_floating_point() else v for k, v in state.items()}
    return prefixed(half, "module.") | {"n_averaged": torch.tensor(7)}


def of_before(state: State) -> State:
    """With the bottleneck's keys of 2020."""
    old = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
    renamed = {}
    for key, value in state.items():
        for now, before in old.items():
            key = key.replace(f"entropy_bottleneck.{now}", f"entropy_bottleneck.{before}")
        renamed[key] = value
    assert renamed.keys() != state.keys()
    return renamed


SHAPES = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "loss": torch.tensor(1.5), "state_dict": s},
    "optimizer": lambda s: {"state_dict": s, "optimizer": {"state": {0: {"step": 1}}}},
    "DataParallel": lambda s: {"state_dict": prefixed(s, "module.")},
    "compiled": lambda s: {"model": prefixed(s, "module._orig_mod.")},
    "Lightning": lambda s: {"state_dict": prefixed(s, "model."), "global_step": 5},
    "2020": of_before,
    "EMA beside": lambda s: {"state_dict": s, "ema": ema(s)},
    "one set of another name": lambda s: {"weights": s},
    "no tables": lambda s: {k: v for k, v in s.items() if "cdf" not in k and "table" not in k},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_checkpoints_of_every_shape(shape: str, state: State, tmp_path: Path) -> None:
    torch.save(SHAPES[shape](state), tmp_path / "c.pth.tar")
    made = import_checkpoint(tmp_path / "c.pth.tar", tmp_path / "run", arch=ARCH, lmbda=0.01)
    assert made.others == (["ema"] if shape == "EMA beside" else [])
    loaded = load_codec(tmp_path / "run").part("net")
    for name, p in loaded.named_parameters():
        assert torch.equal(p, state[name]), name
    about = read_about(tmp_path / "run")
    assert about["name"] == ARCH and about["lmbda"] == 0.01
    assert about["imported"]["file"] == "c.pth.tar"


def test_it_is_judged_as_compressai_judges_it(state: State, zoo: Zoo, tmp_path: Path) -> None:
    """The network and the code of ``compressai.utils.eval_model``, to 0.01 dB and 1 % of bytes."""
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    codec = import_checkpoint(tmp_path / "c.pth", tmp_path / "run", arch=ARCH).codec
    net = MeanScaleHyperprior.from_state_dict(load_state_dict(dict(state)))
    net.update(force=True)
    for index in range(2):
        x = zoo.photo(256, 384, index)
        theirs = inference(net.eval(), x[0])
        data = codec.compress(x).to_bytes()
        decoded = codec.decompress(Bitstream.from_bytes(data))
        psnr = metrics.psnr(to_uint8(decoded[0]), to_uint8(x[0]))
        assert psnr == pytest.approx(theirs["psnr-rgb"], abs=0.01)
        strings = theirs["bpp"] * 256 * 384 / 8
        assert len(data) - 33 == pytest.approx(strings, rel=0.01)


def test_an_ema_is_taken_when_asked_for(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": state, "ema": ema(state)}, tmp_path / "c.pth")
    made = import_checkpoint(tmp_path / "c.pth", tmp_path / "run", arch=ARCH, key="ema")
    name = "g_a.0.weight"
    assert torch.equal(made.codec.part("net").get_parameter(name), state[name] / 2)
    assert (made.key, made.others) == ("ema", ["state_dict"])
    with pytest.raises(ModelError, match="'swa': there are state_dict, ema"):
        read_checkpoint(tmp_path / "c.pth", "swa")


def test_safetensors_and_a_start_for_the_same_network_of_ours(
    state: State, zoo: Zoo, tmp_path: Path
) -> None:
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "c.safetensors")
    import_checkpoint(tmp_path / "c.safetensors", tmp_path / "run", arch=ARCH)
    own = zoo.build("mean_scale")
    load_weights(own, tmp_path / "run", "net")
    assert torch.equal(own.get_parameter("g_s.6.weight"), state["g_s.6.weight"])
    again = CompressAICodec(ARCH, N=8, M=16)
    load_weights(again.part("net"), tmp_path / "run", "net")
    assert torch.equal(again.net.g_s[6].weight, state["g_s.6.weight"])


@pytest.mark.parametrize(
    "arch, widths",
    [
        ("bmshj2018-factorized", {"N": 8, "M": 12}),
        ("mbt2018", {"N": 12, "M": 12}),
        ("cheng2020-attn", {"N": 10}),
        ("cheng2020-anchor-checkerboard", {"N": 10}),
        ("mbt2018-mean-vbr", {"N": 8, "M": 12}),
    ],
)
def test_widths_are_those_of_the_checkpoint(
    arch: str, widths: dict[str, int], tmp_path: Path
) -> None:
    net = build_architecture(arch, **widths)
    torch.save(net.state_dict(), tmp_path / "c.pth")
    import_checkpoint(tmp_path / "c.pth", tmp_path / "run", arch=arch)
    loaded = load_codec(tmp_path / "run").part("net")
    for name, p in net.named_parameters():
        if "context_prediction" not in name:  # whose masked weights become 0
            assert torch.equal(loaded.get_parameter(name), p)


class Strange(MeanScaleHyperprior):
    """A network of somebody's own."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width, 12)


def test_a_class_of_strangers_by_its_name(
    tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"{__name__}:Strange"
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Strange.__module__])
    torch.save(Strange(6).state_dict(), tmp_path / "c.pth")
    arguments = ["--class", module, "--set", "width=6", "--out", str(tmp_path / "run")]
    cli.main(["import", str(tmp_path / "c.pth"), *arguments])
    assert f"--trust {module}" in capsys.readouterr().out
    with pytest.raises(ModelError, match="--trust"):
        load_codec(tmp_path / "run")
    codec = load_codec(tmp_path / "run", trust=[module])
    x = zoo.photo(64, 64)
    assert torch.equal(codec.decompress(codec.compress(x)), codec.reconstruct(x).clamp(0, 1))
    for wrong in ("no.such:Class", "os:system", f"{__name__}:nothing"):
        with pytest.raises(ModelError):
            import_checkpoint(tmp_path / "c.pth", tmp_path / "other", cls=wrong)
    with pytest.raises(ModelError, match="unexpected keyword"):
        import_checkpoint(tmp_path / "c.pth", tmp_path / "other", cls=module, arguments=["M=3"])


class Attack:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('executed')",))


def wide(state: State) -> State:
    quantiles = state["entropy_bottleneck.quantiles"].clone()
    quantiles[0, 0, 2] = 1e9
    return state | {"entropy_bottleneck.quantiles": quantiles}


REFUSED: dict[str, tuple[Any, str]] = {
    "another network": (
        lambda s: build_architecture("bmshj2018-factorized", N=8, M=16).state_dict(),
        r"not of mbt2018-mean, \d+ keys differ: .* instead of .* and \d+ more",
    ),
    "more than the network": (lambda s: s | {"lrp.0.weight": torch.zeros(3)}, "lrp.0.weight is 3"),
    "a layer of another size": (
        lambda s: s | {"h_s.0.bias": torch.zeros(5)},
        "1 keys differ: h_s.0.bias is 5 instead of 16",
    ),
    "code": (lambda s: {"state_dict": s, "x": Attack()}, "would execute code"),
    "a whole module": (lambda s: nn.Linear(1, 1), "would execute code .*Linear"),
    "no weights": (lambda s: {"epoch": 3, "args": {"lr": 1}}, "holds no weights.* epoch, args"),
    "a list": (lambda s: [1, 2], "holds a list"),
    "two unknown sets": (lambda s: {"one": s, "two": s}, "it holds one, two"),
    "nan": (
        lambda s: s | {"g_s.0.bias": torch.full((8,), torch.nan)},
        "g_s.0.bias .* not finite",
    ),
    "tables that fill memory": (wide, "quantiles reach over 1e"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused(why: str, state: State, tmp_path: Path) -> None:
    make, words = REFUSED[why]
    torch.save(make(dict(state)), tmp_path / "c.pth")
    with pytest.raises(ModelError, match=words) as caught:
        import_checkpoint(tmp_path / "c.pth", tmp_path / "run", arch=ARCH)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04junk", b"\x80\x02junk", pickle.dumps(Attack())])
def test_files_that_are_no_checkpoint(data: bytes, tmp_path: Path) -> None:
    for name in ("c.pth", "c.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=name):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ModelError, match="missing"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ModelError, match="no checkpoint"):
        read_checkpoint(tmp_path)


def test_the_command(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state, "ema": ema(state)}, "c.pth")
    cli.main(["import", "c.pth", "--arch", ARCH, "--out", "run", "--name", "mine"])
    said = capsys.readouterr().out
    assert "weights of 'state_dict'" in said and "--weights: ema" in said
    assert read_about(tmp_path / "run")["name"] == "mine"
    for wrong, words in (
        (["--arch", "elic2023"], "elic2022-official"),
        (["--arch", ARCH, "--quality", "9"], "are 1 to 8"),
        (["--arch", ARCH, "--quality", "2"], "keys differ"),
        (["--arch", "mbt2018]["], "cannot be read"),
        (["--arch", ARCH, "--set", "N=3"], "--set is of --class"),
        (["--class", "a.b:C", "--quality", "3"], "--quality is of --arch"),
        (["--class", "a.b.C"], "give package.module:Class"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(["import", "c.pth", *wrong, "--out", "other"])
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count("\n") == 1 and words in error, error
        assert not Path("other").exists()
