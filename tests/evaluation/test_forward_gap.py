"""What forward promises beyond the files is measured of codecs that cannot rule it out."""

from __future__ import annotations

import pytest
import torch
from helpers.zoo import Zoo

from lic_train.codec.export import ready_copy
from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signal
from lic_train.evaluation.forward_gap import describe
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.modules.codecs.compressai import CompressAICodec


def test_it_is_measured_of_codecs_with_caveats(zoo: Zoo) -> None:
    photo = Signal("photo", to_uint8(zoo.signal("compressai", 96, 128)[0]))
    own = evaluate(zoo.ready("mean_scale"), [photo], Labels("set", "own"))
    assert own.forwards == []
    foreign = evaluate(zoo.ready("compressai"), [photo], Labels("set", "foreign"))
    (gap,) = foreign.forwards
    assert gap.file_psnr == foreign.points[0].psnr and gap.image == "photo"
    assert gap.db == pytest.approx(0, abs=1e-4)  # this network decodes what its forward says


def test_a_network_whose_forward_rounds_otherwise_is_found_out(zoo: Zoo) -> None:
    """mbt2018 rounds y in forward, and y beside its mean in files."""
    torch.manual_seed(0)
    codec = CompressAICodec("mbt2018", N=8, M=16)
    codec.net.entropy_parameters[-1].bias.data.fill_(0.4)  # means between two integers
    codec.net.g_s[-1].weight.data *= 30  # fresh weights hardly show what they decode
    photo = Signal("photo", to_uint8(zoo.photo(64, 64)[0]))
    result = evaluate(ready_copy(codec), [photo], Labels("set", "foreign"))
    (gap,) = result.forwards
    assert abs(gap.db) > 0.005
    line = describe(result.forwards)
    assert f"{gap.db:+.3f} dB at most (photo)" in line
    assert any("serial" in caveat for caveat in codec.caveats())
