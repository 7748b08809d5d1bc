"""Every image network of the installed CompressAI as a codec, and what is no such network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from helpers.zoo import Zoo
from omegaconf import OmegaConf
from torch import Tensor, nn

from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec, ready_copy, save_codec
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.base.architectures import architectures, build_architecture
from lic_train.modules.codecs.compressai import CompressAICodec
from lic_train.training.loss import RateDistortionLoss

TARGET = "lic_train.modules.codecs.compressai.CompressAICodec"
NARROW: dict[str, dict[str, int]] = {
    **{name: {"N": 8} for name in architectures() if name.startswith("cheng")},
    **{name: {"N": 8, "M": 136} for name in architectures() if name.startswith("elic")},
}


def narrow(arch: str) -> dict[str, Any]:
    return {"arch": arch, **NARROW.get(arch, {"N": 8, "M": 12})}


@pytest.mark.parametrize("arch", architectures())
def test_every_architecture_trains_and_codes(arch: str, zoo: Zoo, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = CompressAICodec(**narrow(arch)).train()
    x = zoo.photo(50, 70)
    for _ in range(2):
        parts = codec(x)
        (RateDistortionLoss(0.01)(parts).loss + codec.aux_loss()).backward()
    assert sum(p.grad is not None for p in codec.parameters()) > 10
    with torch.autocast("cpu", torch.bfloat16):
        assert {p.dtype for r in codec(x) for p in r.likelihoods.values()} == {torch.float32}
    ready = ready_copy(codec)
    save_codec(tmp_path, ready, OmegaConf.create({"_target_": TARGET, **narrow(arch)}))
    loaded = load_codec(tmp_path)
    for rate in {0, ready.num_rates - 1}:
        data = ready.compress(x, rate).to_bytes()
        assert loaded.compress(x, rate).to_bytes() == data
        decoded = loaded.decompress(Bitstream.from_bytes(data))
        assert decoded.shape == x.shape
        # How far forward is from it is measured by evaluations: some networks round otherwise.
        assert (decoded - ready.reconstruct(x, rate).clamp(0, 1)).abs().mean() < 0.1


def test_the_installed_architectures_are_named() -> None:
    names = architectures()
    assert {"bmshj2018-factorized", "cheng2020-attn", "elic2022-official", "mbt2018-vbr"} <= {
        *names
    }
    assert not any("pcc" in name or name.startswith("ssf") for name in names)
    with pytest.raises(ValueError, match=r"'nonsense'.*mbt2018-mean"):
        build_architecture("nonsense")


def test_qualities_have_the_widths_of_compressai() -> None:
    assert sum(p.numel() for p in build_architecture("mbt2018-mean", 5).parameters()) == sum(
        p.numel() for p in MeanScaleHyperprior(192, 320).parameters()
    )
    for arch, quality in (("cheng2020-attn", 7), ("mbt2018", 0), ("elic2022-official", 3)):
        with pytest.raises(ValueError, match=f"quality is {quality}"):
            build_architecture(arch, quality)
    with pytest.raises(ValueError, match="no such width"):
        build_architecture("cheng2020-anchor", N=8, M=8)
    with pytest.raises(ValueError, match="no such widths"):
        build_architecture("elic2022-official", N=8, M=16)


def test_a_network_of_several_rates_trains_each_at_its_own_lambda(zoo: Zoo) -> None:
    torch.manual_seed(0)
    codec = CompressAICodec(**narrow("mbt2018-mean-vbr")).train()
    assert codec.num_rates == 8 and codec.own_lmbda
    drawn = {(r.name, r.lmbda) for _ in range(60) for r in codec(zoo.photo(64, 64))}
    assert drawn == {(f"rate{i}", lmbda) for i, lmbda in enumerate(codec.net.lmbda)}
    ready, x = ready_copy(codec), zoo.photo(64, 64)
    assert [r.weight for r in ready(x)] == [1 / 8] * 8
    images = [ready.decompress(ready.compress(x, rate)) for rate in range(8)]
    for rate, image in enumerate(images):
        assert torch.allclose(image, ready.reconstruct(x, rate).clamp(0, 1), atol=1e-6)
    with pytest.raises(ModelError, match="tables of its own"):
        CompressAICodec(net=build_vbr())


def build_vbr() -> nn.Module:
    from compressai.models.vbr import MeanScaleHyperpriorVbr

    return MeanScaleHyperpriorVbr(8, 12, vr_entbttlnck=True)


class Unlike(MeanScaleHyperprior):
    """Says a shape that is not the image's."""

    def compress(self, x: Tensor) -> dict[str, Any]:
        return {**super().compress(x), "shape": (1, 1)}


class Broken(MeanScaleHyperprior):
    """Fails as strangers' code fails."""

    def decompress(self, strings: Any, shape: Any) -> dict[str, Any]:
        raise KeyError("y_hat")


def test_networks_of_ones_own(zoo: Zoo) -> None:
    x = zoo.photo(130, 70)
    torch.manual_seed(0)
    own = ready_copy(CompressAICodec(net=MeanScaleHyperprior(8, 12)))
    assert torch.equal(own.decompress(own.compress(x)), own.reconstruct(x).clamp(0, 1))
    with pytest.raises(ModelError, match="no compress"):
        CompressAICodec(net=nn.Conv2d(3, 3, 1))
    with pytest.raises(ModelError, match="does not follow"):
        ready_copy(CompressAICodec(net=Unlike(8, 12))).compress(x)
    broken = ready_copy(CompressAICodec(net=Broken(8, 12)))
    with pytest.raises(BitstreamError, match="KeyError"):
        broken.decompress(broken.compress(x))
    assert torch.get_default_dtype() == torch.float32


def test_bytes_are_those_that_the_network_writes(zoo: Zoo) -> None:
    """Of an image of whole strides; its own float32 may choose another table here and there."""
    ready, x = zoo.ready("compressai"), zoo.photo(256, 320)
    assert isinstance(ready, CompressAICodec)
    own = ready.net.compress(x)["strings"]
    chunks = ready.compress(x).chunks[:-1]
    assert [len(string[0]) for string in own] == pytest.approx(list(map(len, chunks)), rel=1e-3)
