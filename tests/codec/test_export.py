"""An export is whole, holds no code, and whatever is wrong with one is said in one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.zoo import Zoo
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lic_train import __version__
from lic_train.codec.export import CONFIG, WEIGHTS, load_codec, read_about, ready_copy, save_codec
from lic_train.errors import ModelError

STEM = "mean_scale"


class Witness(nn.Module):
    """Would tell if somebody made it."""

    made = False

    def __init__(self) -> None:
        super().__init__()
        Witness.made = True


@pytest.fixture
def exported(zoo: Zoo, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    save_codec(folder, ready_copy(zoo.build(STEM)), zoo.config(STEM), name="a", lmbda=0.25)
    return folder


def refusal(folder: Path, *words: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_codec(folder)
    text = str(caught.value)
    assert text and "\n" not in text
    for word in words:
        assert word in text, text
    return text


def with_model(folder: Path, text: str) -> Path:
    """The export with this YAML in the place of its model's."""
    (folder / CONFIG).write_text(f"lic_train: {__version__}\nabout: {{}}\nmodel: {text}\n")
    return folder


def state(folder: Path) -> dict[str, bytes]:
    """Names and contents, temporary files aside."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(".tmp")}


# --- what is there


def test_an_export_is_two_plain_files(exported: Path) -> None:
    assert set(state(exported)) == {"model.safetensors", "model.yaml"}
    assert {p.name for p in exported.iterdir()} == set(state(exported))
    with safe_open(exported / WEIGHTS, "pt") as file:
        assert file.metadata() == {"lic_train": __version__}
    config = OmegaConf.load(exported / CONFIG)
    assert set(config) == {"lic_train", "about", "model"}
    start = {"start": "wavelet", "start_lmbda": 0.03, "quantise": "noise"}
    ladder = {"rates": 1, "lmbdas": [0.0018, 0.0932]}
    widths = {"N": 8, "M": 16}
    assert config.model == {"_target_": config.model._target_, **widths, **start, **ladder}


def test_it_loads_as_it_was_saved(exported: Path, zoo: Zoo) -> None:
    codec = load_codec(exported)
    saved = ready_copy(zoo.build(STEM)).state_dict()
    loaded = codec.state_dict()
    assert saved.keys() == loaded.keys() == load_file(exported / WEIGHTS).keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert not codec.training
    assert read_about(exported) == {"name": "a", "lmbda": 0.25}


def test_interpolations_are_resolved(zoo: Zoo, tmp_path: Path) -> None:
    """A model config may refer to the rest of the run's config, which is not there later."""
    whole = OmegaConf.create({"width": 16, "model": {**zoo.config(STEM), "M": "${width}"}})
    save_codec(tmp_path, ready_copy(zoo.build(STEM)), whole.model)
    assert OmegaConf.load(tmp_path / CONFIG).model.M == 16
    load_codec(tmp_path)


def test_saving_again_replaces(exported: Path, zoo: Zoo) -> None:
    before = state(exported)
    codec = ready_copy(zoo.build(STEM, seed=1))
    save_codec(exported, codec, zoo.config(STEM), lmbda=1.5)
    after = state(exported)
    assert after.keys() == before.keys() and after[WEIGHTS] != before[WEIGHTS]
    assert read_about(exported) == {"lmbda": 1.5}


# --- what is missing or damaged


def test_missing_files(exported: Path, tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere", "nowhere", "no run directory")
    refusal(exported / CONFIG, "no run directory")
    refusal(tmp_path, CONFIG)
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / WEIGHTS).unlink()
    refusal(tmp_path / "copy", WEIGHTS, "missing")
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ModelError):
            read_about(folder)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated_weights(exported: Path, keep: int) -> None:
    path = exported / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    refusal(exported, WEIGHTS, "damaged")


def test_weights_that_are_something_else(exported: Path, zoo: Zoo) -> None:
    torch.save(zoo.build(STEM).state_dict(), exported / WEIGHTS)
    refusal(exported, WEIGHTS, "damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"model: [1, 2",
        b"a: b: c",
        b"\t- nonsense",
        b"just words",
        b"- a\n- b",
        b"model: 5",
        b"model:",
        b"other: {}",
        b"model: {}\nmodel: {}",
        b"model: {N: '${'}",
        b"\x00\x01\x02",
        b"\xff\xfe\x00",
        bytes(range(256)),
        b"model: !!python/object/apply:os.getcwd []",
        b"!!python/object/apply:os.getcwd []",
    ],
    ids=str,
)
def test_yaml_that_is_none_or_holds_no_model(exported: Path, content: bytes) -> None:
    (exported / CONFIG).write_bytes(content)
    refusal(exported, str(exported))
    with pytest.raises(ModelError):
        read_about(exported)


@pytest.mark.parametrize(
    "change", [{"N": 4}, {"M": 32}, {"N": "wide"}, {"N": 0}, {"depth": 3}, {"N": None}], ids=str
)
def test_weights_of_another_model(exported: Path, change: dict[str, Any], zoo: Zoo) -> None:
    given = OmegaConf.to_container(zoo.config(STEM), resolve=True)
    assert isinstance(given, dict)
    with_model(exported, json.dumps({**given, **change}))
    refusal(exported, WEIGHTS, "does not fit")


def test_weights_of_another_codec(exported: Path, zoo: Zoo) -> None:
    other = ready_copy(zoo.build("context_only")).state_dict()
    save_file({name: t.contiguous() for name, t in other.items()}, exported / WEIGHTS)
    refusal(exported, WEIGHTS, "does not fit")
    tensors = ready_copy(zoo.build(STEM)).state_dict()
    tensors.pop("g_a.0.weight")
    save_file({name: t.contiguous() for name, t in tensors.items()}, exported / WEIGHTS)
    refusal(exported, "g_a.0.weight")


def test_weights_without_tables_cannot_code(exported: Path, zoo: Zoo) -> None:
    """A checkpoint's weights, put there by hand, are refused before they write a file."""
    save_file(zoo.build(STEM).state_dict(), exported / WEIGHTS)
    with pytest.raises(ModelError) as caught:
        load_codec(exported).compress(zoo.photo(16, 16))
    assert "\n" not in str(caught.value)


# --- what must not run


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.dict",
        "torch.load",
        "torch.nn.functional.relu",
        "torch.nn",
        "lic_train.modules.codecs.base.gaussian._flat",
        "no_such_module.Codec",
        "lic_train.modules.codecs.mean_scale.NoSuchCodec",
        "",
        "..",
        "5",
        "[a]",
        "${oc.env:HOME}",
        "${nowhere}",
        "???",
    ],
)
def test_only_torch_modules_are_called(exported: Path, target: str, tmp_path: Path) -> None:
    done = tmp_path / "done"
    model = f"{{_target_: {target!r}, _args_: ['touch {done}']}}"
    refusal(with_model(exported, model))
    refusal(with_model(exported, f"{{_target_: torch.nn.Sequential, _args_: [{model}]}}"))
    refusal(with_model(exported, f"{{_target_: torch.nn.Sequential, a: {{b: [[{model}]]}}}}"))
    assert not done.exists()


def test_a_module_that_is_no_codec_is_refused(exported: Path) -> None:
    linear = "{_target_: torch.nn.Linear, in_features: 2, out_features: 2}"
    refusal(with_model(exported, linear), "torch.nn.Linear", "refused")
    layer = "{_target_: lic_train.modules.layers.attention.ChannelAttention, channels: 4}"
    refusal(with_model(exported, layer), "not a codec")
    refusal(with_model(exported, "{N: 8, M: 16}"), "not a codec")
    partial = "{_target_: lic_train.modules.codecs.mean_scale.MeanScale, _partial_: true}"
    refusal(with_model(exported, partial), "_partial_")


def test_nothing_is_made_before_everything_is_checked(exported: Path) -> None:
    name = f"{__name__}.Witness"
    parts = f"{{a: {{_target_: {name}}}, b: {{_target_: subprocess.Popen}}}}"
    with_model(exported, f"{{_target_: {name}, parts: {parts}}}")
    with pytest.raises(ModelError, match=r"subprocess\.Popen.*refused"):
        load_codec(exported, trust=[f"{__name__}:Witness"])
    assert not Witness.made
    refusal(with_model(exported, f"{{_target_: {name}}}"), "refused")
    assert not Witness.made


# --- whole or not there


def test_a_device_that_is_not_there(exported: Path) -> None:
    for device in ("cuda:99", "tpu", "", "meta"):
        with pytest.raises(ModelError, match="device") as caught:
            load_codec(exported, device)
        assert "\n" not in str(caught.value)


def test_an_export_that_fails_leaves_the_old_one(
    exported: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(exported)
    codec, config = ready_copy(zoo.build(STEM, seed=1)), zoo.config(STEM)

    def half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    def refuse(*_: Any) -> None:
        raise OSError(13, "Permission denied")

    for where, name, broken in (
        (Path, "write_bytes", half),
        (Path, "write_text", refuse),
        (os, "replace", refuse),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, broken)
            with pytest.raises(OSError):
                save_codec(exported, codec, config, lmbda=9.0)
        assert state(exported) == before
        load_codec(exported)
    save_codec(exported, codec, config, lmbda=9.0)
    assert set(p.name for p in exported.iterdir()) == {WEIGHTS, CONFIG}
    assert read_about(exported) == {"lmbda": 9.0}


def test_a_first_export_that_fails_is_none(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        save_codec(tmp_path, ready_copy(zoo.build(STEM)), zoo.config(STEM))
    refusal(tmp_path, CONFIG)
