"""What a codec weighs and computes adds up, and is what its layers say."""

from __future__ import annotations

import pytest
import torch
from helpers.models import MODELS
from helpers.zoo import Zoo
from torch import nn

from lic_train.cli import _main as cli
from lic_train.codec.export import ready_copy, save_codec
from lic_train.evaluation.profile import REST, parts_of, profile


@pytest.mark.parametrize("stem", MODELS)
def test_every_model_has_parts_and_costs(stem: str, zoo: Zoo) -> None:
    codec = ready_copy(zoo.build(stem))
    x = zoo.signal(stem, 64, 64)
    rows = profile(codec, x)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in codec.parameters())
    assert [row.part for row in rows] == [*parts_of(codec), REST]
    assert sum(row.macs for row in rows) > 100
    assert all(min(row.macs, row.encode_s, row.decode_s) >= 0 for row in rows)
    assert any(row.encode_s > 0 for row in rows[:-1])
    assert not codec.training and not any(m._forward_hooks for m in codec.modules())


def test_multiplications_are_those_of_the_layers(zoo: Zoo) -> None:
    codec = ready_copy(zoo.build("mean_scale"))
    rows = {row.part: row for row in profile(codec, torch.rand(1, 3, 128, 64))}
    side, count = 1, 0.0
    for layer in codec.g_a:  # type: ignore[union-attr, operator]
        if isinstance(layer, nn.Conv2d):
            side *= 2
            count += layer.weight.numel() / side**2
        else:  # GDN is a 1x1 convolution of squares
            count += layer.gamma.numel() / side**2  # type: ignore[union-attr, operator]
    assert rows["g_a"].macs == pytest.approx(count, rel=1e-9)
    # A transposed convolution multiplies at its input's resolution: the mirror costs the same.
    assert rows["g_s"].macs == pytest.approx(count, rel=0.05)
    assert rows["g_a"].encode_s > 0 == rows["g_a"].decode_s
    assert rows["g_s"].decode_s > 0 == rows["g_s"].encode_s


def test_the_command(zoo: Zoo, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    codec = ready_copy(zoo.build("elic"))
    save_codec(tmp_path, codec, zoo.config("elic"))  # type: ignore[arg-type]
    cli.main(["profile", str(tmp_path), "--size", "64x48"])
    of_run = capsys.readouterr().out
    assert "contexts" in of_run
    widths = ["model.N=8", "model.M=16", "model.width=32", "model.blocks=1"]
    cli.main(["profile", "model=elic", *widths, "--size", "64x48"])
    of_settings = capsys.readouterr().out
    total = f"{sum(p.numel() for p in codec.parameters()):,}"
    assert total in of_run and total in of_settings
    for wrong in (["x=1"], ["model=elic", "--size", "0x3"], ["model=elic", "--set", "N=3"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["profile", *wrong])
        assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1
