"""A run folder of a stranger: nothing in it is executed, no coder is given what it cannot use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import MODELS as STEMS
from helpers.zoo import REPOSITORY, Zoo
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.blueprint import blueprint, foreign_targets, trusted_targets
from lic_train.codec.export import CONFIG, WEIGHTS, load_codec, load_weights, ready_copy, save_codec
from lic_train.errors import BitstreamError, ModelError
from lic_train.evaluation.decoder_process import DecoderProcess
from lic_train.utils.faults import one_line
from lic_train.utils.plain import NotPlainError, read_yaml

OURS = "lic_train.modules.codecs.mean_scale.MeanScale"
MODELS: dict[str, Any] = {
    "a shell": {"_target_": "os.system", "command": "touch executed"},
    "a module that evaluates": {
        "_target_": "torch_geometric.nn.Sequential",
        "input_args": "x -> __import__('os').system('touch executed')",
        "modules": [],
    },
    "torch's container": {"_target_": "torch.nn.Sequential"},
    "hydra itself": {"_target_": "hydra.utils.get_class", "path": "os.system"},
    "below a codec": {"_target_": OURS, "N": {"_target_": "os.system", "command": "x"}},
    "in a list": {"_target_": OURS, "N": [[{"_target_": "os.system"}]]},
    "a function of ours": {"_target_": "lic_train.modules.layers.transforms.analysis", "N": 1},
    "what a module imports": {"_target_": "lic_train.modules.codecs.edic.Any"},
    "a class of another file": {"_target_": "lic_train.modules.codecs.edic.Enhancement"},
    "a method of a class": {"_target_": "lic_train.modules.codecs.edic.EDIC.mro"},
    "another room": {"_target_": "lic_train.codec.export.Path"},
    "a name with dots": {"_target_": "lic_train.modules.codecs..edic.EDIC"},
    "a newline": {"_target_": OURS + "\n"},
    "arguments by place": {"_target_": OURS, "_args_": [1, 2]},
    "partial": {"_target_": OURS, "_partial_": True},
    "a conversion": {"_target_": OURS, "_convert_": "all"},
    "a resolver": {"_target_": OURS, "N": "${oc.env:HOME}"},
    "giant": {"_target_": OURS, "N": 10**9},
    "blocks": {"_target_": "lic_train.modules.codecs.edic.EDIC", "enhancement_blocks": 10**9},
    "deep": {"_target_": OURS, "N": json.loads("[" * 40 + "]" * 40)},
    "wide": {"_target_": OURS, "N": [0] * 5000},
    "no class": {"N": 8},
    "a class that is no text": {"_target_": ["a"]},
    "infinite": {"_target_": OURS, "N": float("inf")},
}


@pytest.fixture
def run(zoo: Zoo, tmp_path: Path) -> Path:
    save_codec(tmp_path / "run", ready_copy(zoo.build("mean_scale")), zoo.config("mean_scale"))
    return tmp_path / "run"


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_on_the_list_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    with pytest.raises(ModelError) as caught:
        blueprint(MODELS[name])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    foreign = {"torch_geometric.nn", "hydra.utils", "os"} - before
    assert not foreign & set(sys.modules)  # looked at as text, not imported


def test_every_model_of_the_package_passes(zoo: Zoo) -> None:
    for stem in STEMS:
        plan = blueprint(OmegaConf.to_container(zoo.config(stem), resolve=True))
        assert plan["_target_"].startswith("lic_train.modules.codecs.")


def test_a_foreign_class_is_built_where_the_user_names_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process and in the one that decodes."""
    (run.parent / "stranger.py").write_text(
        "from lic_train.modules.codecs.mean_scale import MeanScale\n\n"
        "class Mine(MeanScale):\n    pass\n"
    )
    monkeypatch.syspath_prepend(run.parent)
    (run / CONFIG).write_text((run / CONFIG).read_text().replace(OURS, "stranger.Mine"))
    with pytest.raises(ModelError, match="--trust stranger:Mine"):
        load_codec(run)
    assert "stranger" not in sys.modules
    assert type(load_codec(run, trust=["stranger:Mine"])).__name__ == "Mine"
    with DecoderProcess(run, trust=["stranger:Mine"]):
        pass
    assert list(foreign_targets({"_target_": "stranger.Mine", "N": 8})) == ["stranger:Mine"]


@pytest.mark.parametrize("name", ["os.system", "a:b:c", "a b:C", "", "a:C\x1b[2J"])
def test_trust_takes_a_class_of_a_module(name: str) -> None:
    with pytest.raises(ModelError, match=r"give package\.module:Class") as caught:
        trusted_targets([name])
    assert str(caught.value).isprintable()


def test_no_code_of_the_working_folder_runs(run: Path, tmp_path: Path) -> None:
    """Not in the process that decodes, whatever lies where the command is given."""
    here = tmp_path / "hostile"
    here.mkdir()
    for name in ("torch", "numpy", "lic_train", "compressai", "yaml"):
        (here / f"{name}.py").write_text(f"open({str(here / 'executed')!r}, 'w')\n")
    code = (
        "from pathlib import Path\n"
        "from lic_train.evaluation.decoder_process import DecoderProcess\n"
        f"with DecoderProcess(Path({str(run)!r})): print('loaded')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "loaded\n", done.stderr[-2000:]
    assert not (here / "executed").exists()


# --- weights and tables

Change = Callable[[dict[str, Tensor]], Any]


def of(key: str, change: Callable[[Tensor], Tensor]) -> Change:
    """A change of one table of the conditional of y."""
    name = f"gaussian_conditional.{key}"

    def apply(tensors: dict[str, Tensor]) -> None:
        tensors[name] = change(tensors[name]).clone()

    return apply


def weight(change: Callable[[Tensor], Tensor]) -> Change:
    def apply(tensors: dict[str, Tensor]) -> None:
        tensors["g_a.0.weight"] = change(tensors["g_a.0.weight"]).clone()

    return apply


CHANGES: dict[str, Change] = {
    "length 0": of("_cdf_length", lambda x: x * 0),
    "length 2": of("_cdf_length", lambda x: x * 0 + 2),
    "negative length": of("_cdf_length", lambda x: -x),
    "length beyond the row": of("_cdf_length", lambda x: x + 100000),
    "reversed": of("_quantized_cdf", lambda x: x.flip(1)),
    "random": of("_quantized_cdf", lambda x: torch.randint_like(x, 70000)),
    "flat": of("_quantized_cdf", lambda x: x * 0),
    "does not end": of("_quantized_cdf", lambda x: x // 2),
    "floats": of("_quantized_cdf", lambda x: x.float()),
    "64 bits": of("_quantized_cdf", lambda x: x.long()),
    "one row": of("_quantized_cdf", lambda x: x[:1]),
    "empty": of("_quantized_cdf", lambda x: x[:, :0]),
    "no rows": of("_quantized_cdf", lambda x: x[:0]),
    "one dimension": of("_quantized_cdf", lambda x: x.flatten()),
    "far offset": of("_offset", lambda x: x + (1 << 30)),
    "fewer offsets": of("_offset", lambda x: x[:-1]),
    "scales that fall": of("scale_table", lambda x: x.flip(0)),
    "no scale": of("scale_table", lambda x: x[:0]),
    "scales of another number": of("scale_table", lambda x: x[:-3]),
    "missing": lambda tensors: tensors.pop("gaussian_conditional._offset"),
    "weights not finite": weight(lambda x: x * float("nan")),
    "weights of integers": weight(lambda x: x.int()),
    "another shape": weight(lambda x: x[:1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_coder_cannot_use_is_refused_before_it_meets_it(name: str, run: Path) -> None:
    tensors = load_file(run / WEIGHTS)
    CHANGES[name](tensors)
    save_file(tensors, run / WEIGHTS)
    with pytest.raises(ModelError) as caught:
        load_codec(run)
    assert "\n" not in str(caught.value) and WEIGHTS in str(caught.value)


@pytest.mark.slow
def test_a_thousand_tables_with_random_changes(run: Path) -> None:
    """Whatever is accepted codes and decodes."""
    tensors = load_file(run / WEIGHTS)
    ends = ("_quantized_cdf", "_cdf_length", "_offset", "_table")
    names = [name for name in tensors if name.endswith(ends)]
    generator = torch.Generator().manual_seed(0)

    def draw(most: int) -> int:
        return int(torch.randint(most, (1,), generator=generator))

    x = torch.rand(1, 3, 64, 64)
    accepted = 0
    for _ in range(1000):
        changed = {name: tensor.clone() for name, tensor in tensors.items()}
        for _ in range(1 + draw(3)):
            flat = changed[names[draw(len(names))]].view(-1)
            flat[draw(len(flat))] = (draw(1 << 17) - (1 << 16)) // (1 + draw(1000))
        save_file(changed, run / WEIGHTS)
        try:
            codec = load_codec(run)
        except ModelError:
            continue
        accepted += 1
        codec.decompress(codec.compress(x))
    assert accepted < 900


def test_equal_tensors_are_equal_bytes(run: Path, zoo: Zoo, tmp_path: Path) -> None:
    again = tmp_path / "again"
    for _ in range(8):
        save_codec(again, ready_copy(zoo.build("mean_scale")), zoo.config("mean_scale"))
        assert (again / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


# --- YAML, and what earlier versions wrote


def bomb(kind: str) -> str:
    if kind == "aliases":
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]" for i in range(1, 12)]
        return "\n".join(lines) + "\nmodel: {N: *a11}\n"
    return {
        "depth": "model: " + "[" * 20000 + "]" * 20000,
        "size": "model: {N: 1}\n" + "#" * (5 << 20),
        "nodes": "model: [" + "1," * 200000 + "]",
        "tags": "model: !!python/object/apply:os.system ['touch executed']",
    }[kind]


@pytest.mark.parametrize("kind", ["aliases", "depth", "size", "nodes", "tags"])
def test_yaml_bombs_are_refused_at_once(
    kind: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    (run / CONFIG).write_text(bomb(kind))
    start = time.process_time()
    with pytest.raises(ModelError, match="cannot be read"):
        load_codec(run)
    assert time.process_time() - start < 30  # the bombs take hours, or all memory
    assert not (run.parent / "executed").exists()


@pytest.mark.parametrize(
    "text",
    [
        "model: {_target_: a.B, N: 2020-01-01}",
        "model: {_target_: a.B, null: 1}",
        "model: {_target_: a.B, N: '???'}",
        "model: {_target_: a.B, N: 0x" + "f" * 100_000 + "}",
        "model: {_target_: a.B}\nabout: {x: '${'}",
    ],
    ids=["date", "null key", "missing", "huge number", "half an interpolation"],
)
def test_values_that_are_not_plain_are_one_line(text: str, run: Path) -> None:
    (run / CONFIG).write_text(text)
    with pytest.raises(ModelError) as caught:
        load_codec(run)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_messages_are_fit_to_print(run: Path) -> None:
    (run / CONFIG).write_text('model: {_target_: "a.\\e[2J\\e]0;x\\aB", "x\\e[31m": 1}')
    with pytest.raises(ModelError) as caught:
        load_codec(run)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("stem", "changes"),
    [
        ("dvc", {"codecs.base.motion_factorised.": "codecs.motion_factorised."}),
        ("compass", {"quantise: mixed": "straight_through: true", "quantise: noise": ""}),
    ],
)
def test_a_model_of_version_0_1_loads(
    stem: str, changes: dict[str, str], zoo: Zoo, tmp_path: Path
) -> None:
    """By the names it was saved with."""
    codec = save_codec(tmp_path, ready_copy(zoo.build(stem)), zoo.config(stem))
    text = (tmp_path / CONFIG).read_text()
    for new, old in changes.items():
        assert new in text
        text = text.replace(new, old)
    new_keys = ("start:", "start_lmbda:")
    lines = [x for x in text.splitlines() if x.strip() and not x.strip().startswith(new_keys)]
    (tmp_path / CONFIG).write_text("\n".join(lines))
    loaded = load_codec(tmp_path)
    assert all(torch.equal(t, codec.state_dict()[n]) for n, t in loaded.state_dict().items())


# --- bounds


@pytest.mark.parametrize(
    "text",
    [
        "[" + ", ".join("1" for _ in range(10_000)) + "]",
        "a: " + ":".join("59" for _ in range(10_000)),
        "a: " + "x" * 20_000,
        "a: x\n" * 60_000,
    ],
    ids=["many values", "base 60", "one long value", "large"],
)
def test_text_that_takes_long_to_read_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(NotPlainError):
        read_yaml(tmp_path / "x.yaml")


def test_widths_that_take_minutes_to_build_are_refused() -> None:
    target = "lic_train.modules.codecs.mean_scale.MeanScale"
    with pytest.raises(ModelError, match="4096"):
        blueprint({"_target_": target, "N": 4096, "M": 4096})


@pytest.mark.parametrize("shape", [(1, 3, 33000, 33000), (1, 3, 1, 1_400_000_000)])
def test_a_header_asks_for_no_more_pixels_than_are_allowed(shape: tuple[int, ...]) -> None:
    data = Bitstream((b"x" * 20,), shape, 0, bytes(6)).to_bytes()
    with pytest.raises(BitstreamError, match=r"more than 89478485 pixels.*LIC_MAX_PIXELS"):
        Bitstream.from_bytes(data)


def test_a_line_is_short_and_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    noise = "\x1b[31m" + "x" * 10_000
    with pytest.raises(SystemExit), one_line("lic"):
        raise ModelError(noise)
    said = capsys.readouterr().err
    assert len(said) < 2100 and "\x1b" not in said and said.startswith("lic: error: ?[31mxxx")


def test_weights_to_start_from_are_finite(zoo: Zoo, tmp_path: Path) -> None:
    codec = zoo.ready_own("mean_scale")
    first = next(codec.parameters())
    first.data[(0,) * first.ndim] = torch.nan
    save_codec(tmp_path, codec, zoo.config("mean_scale"))
    with pytest.raises(ModelError, match="not finite"):
        load_weights(zoo.build("mean_scale"), tmp_path)
