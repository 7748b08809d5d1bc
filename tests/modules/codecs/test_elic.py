"""ELIC: its groups, its start as a wavelet, and how many passes an image takes."""

from __future__ import annotations

import pytest
import torch
from helpers.zoo import Zoo

from lic_train.codec.signal import to_uint8
from lic_train.modules.codecs.elic import ELIC
from lic_train.modules.layers.residual import Attention, Bottleneck
from lic_train.rd import metrics


def test_groups_make_up_the_channels() -> None:
    assert ELIC(8, 16, groups=[4, 12], blocks=0, width=8).groups == [4, 12]
    for groups in ([4, 4], [0, 16], [-1, 17]):
        with pytest.raises(ValueError, match="make up M"):
            ELIC(8, 16, groups=groups)
    with pytest.raises(ValueError, match="too few"):
        ELIC(8, 6)


@pytest.mark.parametrize("attention", [False, True])
def test_a_wavelet_start_codes_a_photograph_before_any_batch(attention: bool, zoo: Zoo) -> None:
    """Blocks that begin as the identity let the packet through."""
    torch.manual_seed(0)
    codec = ELIC(48, 64, width=16, blocks=2, attention=attention, start="wavelet").eval()
    x = zoo.photo(128, 128)
    with torch.no_grad():
        x_hat = codec(x)[0].x_hat
    assert metrics.psnr(to_uint8(x_hat[0]), to_uint8(x[0])) > (19 if attention else 24)


def test_blocks_are_silent_when_asked() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 8, 6, 6)
    for block, most in ((Bottleneck(8), 0.0), (Attention(8), 0.05)):
        assert (block(x) - x).abs().max() > 0.01
        block.silence()
        assert (block(x) - x).abs().max() <= most * x.abs().max()
