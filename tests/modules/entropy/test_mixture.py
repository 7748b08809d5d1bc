"""The mixture coder: exact integers, no symbol it cannot code, and hardly a bit too many."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.mixtures import draw, parameters
from scipy.stats import norm

from lic_train.errors import BitstreamError
from lic_train.modules.entropy import mixture as module
from lic_train.modules.entropy.mixture import (
    MAX_HALF_WIDTH,
    WEIGHT_SUM,
    Mixture,
    decode_mixture,
    encode_mixture,
    fixed_point,
    probabilities,
)

TOTAL = WEIGHT_SUM << 24
# Files hold what these give. A change of either makes old files unreadable: raise the version.
PHI_SHA256 = "5f041047871e6f776f175aa09d135ac64ce18b9b96f555f5f44d3f8409ac9399"
GOLDEN_SHA256 = "e7edcf791a2cb8c2503d71fcf440e1337d564f31ebcce25350822a764e8d6269"


def of_integers(n: int, K: int) -> tuple[np.ndarray, Mixture]:
    """Symbols and mixtures that no random generator and no float had a part in."""
    i, k = np.arange(n)[:, None], np.arange(K)[None]
    means = (i * 7919 + k * 104729) % 20_000 - 10_000
    scales = (i * 31 + k * 17) % len(module._SCALES)
    weights = np.full((n, K), WEIGHT_SUM // K)
    weights[:, 0] += WEIGHT_SUM - weights.sum(axis=1)
    symbols = means[:, 0] // 256 + (i[:, 0] * 13) % 7 - 3
    symbols[::97] += 400_000
    return symbols, Mixture(means, scales, weights)


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 2, 3000])
def test_what_is_encoded_is_decoded(n: int, K: int) -> None:
    for seed in range(3):
        weights, means, scales = parameters(n, K, seed)
        mixture = fixed_point(weights, means, scales)
        symbols = draw(weights, means, scales, seed)
        for outliers in (0, n // 10, n):
            rng = np.random.default_rng(seed)
            symbols[:outliers] = rng.integers(-400_000, 400_001, outliers)
            chunk = encode_mixture(symbols, mixture)
            decoded = decode_mixture(chunk, mixture)
            assert decoded.dtype == np.int64 and np.array_equal(decoded, symbols)


@pytest.mark.parametrize("far", [400_000, 4_000_000, 2**22 - 1])
def test_outliers_on_both_sides(far: int) -> None:
    mixture = fixed_point(np.ones((4, 1)), np.zeros((4, 1)), np.array([[0.01], [1], [40], [1e9]]))
    for symbols in ([far, -far, 0, far], [-far, far, -far, 5], [0, 1, 200, -200]):
        wanted = np.array(symbols)
        assert np.array_equal(decode_mixture(encode_mixture(wanted, mixture), mixture), wanted)


def test_a_symbol_too_far_from_its_mean_is_refused() -> None:
    mixture = fixed_point(np.ones((2, 1)), np.array([[0.0], [1000]]), np.ones((2, 1)))
    for symbols in ([2**23, 0], [0, 1000 - 2**23], [2**40, 0], [0, -(2**62)]):
        with pytest.raises(ValueError, match="too far"):
            encode_mixture(np.array(symbols), mixture)


@pytest.mark.parametrize("K", [1, 2, 3])
def test_the_cost_is_the_information(K: int) -> None:
    weights, means, scales = parameters(20_000, K)
    mixture = fixed_point(weights, means, scales)
    # What the coder was told, in units of the latent.
    w, m = mixture.weights / WEIGHT_SUM, mixture.means / 256
    s = module._SCALES[mixture.scales]
    symbols = draw(w, m, s)
    away = np.abs(symbols[:, None] - m)
    p = (w * (norm.sf((away - 0.5) / s) - norm.sf((away + 0.5) / s))).sum(axis=1)
    ideal = -np.log2(p).sum() / 8
    assert ideal > 5000
    written = len(encode_mixture(symbols, mixture))
    assert ideal * 0.999 - 20 < written < ideal * 1.001 + 20


def test_snapping_parameters_costs_next_to_nothing() -> None:
    weights, means, scales = parameters(20_000, 2)
    symbols = draw(weights, means, scales)
    s = np.clip(scales, module.MIN_SCALE, module.MAX_SCALE)
    away = np.abs(symbols[:, None] - means)
    p = (weights * (norm.sf((away - 0.5) / s) - norm.sf((away + 0.5) / s))).sum(axis=1)
    ideal = -np.log2(p).sum() / 8
    assert len(encode_mixture(symbols, fixed_point(weights, means, scales))) < 1.002 * ideal + 20


def test_rows_sum_exactly_and_are_of_whole_numbers() -> None:
    for K in (1, 2, 3):
        mixture = fixed_point(*parameters(300, K))
        centre = np.rint(mixture.means.mean(axis=1) / 256).astype(np.int64)
        for half_width in (1, 2, 64, MAX_HALF_WIDTH):
            rows = probabilities(mixture, centre, half_width)
            assert rows.shape == (300, 2 * half_width + 2)
            assert (rows >= 0).all() and (rows == np.rint(rows)).all()
            assert (rows.astype(np.int64).sum(axis=1) == TOTAL).all()


def test_probabilities_are_those_of_the_normal_distribution() -> None:
    w, m, s = np.array([[0.75, 0.25]]), np.array([[-1.5, 4.0]]), np.array([[0.5, 2.0]])
    mixture = fixed_point(w, m, s)
    s = module._SCALES[mixture.scales]
    assert np.allclose(s, [[0.5, 2.0]], rtol=0.025)
    rows = probabilities(mixture, np.array([1]), 8)[0] / TOTAL
    symbols = np.arange(1 - 8, 1 + 8 + 1)[:, None]
    p = (w * (norm.cdf((symbols + 0.5 - m) / s) - norm.cdf((symbols - 0.5 - m) / s))).sum(axis=1)
    assert np.abs(rows[:-1] - p).max() < 2e-4
    assert abs(rows[-1] - (1 - p.sum())) < 2e-4


def test_integer_parameters_are_near_the_floats_and_weights_sum_exactly() -> None:
    weights, means, scales = parameters(5000, 3)
    mixture = fixed_point(weights, means, scales)
    assert (mixture.weights.sum(axis=1) == WEIGHT_SUM).all() and (mixture.weights >= 0).all()
    assert np.abs(mixture.weights / WEIGHT_SUM - weights).max() <= 1.5 / WEIGHT_SUM
    assert np.abs(mixture.means / 256 - means).max() <= 0.5 / 256
    s = np.clip(scales, module.MIN_SCALE, module.MAX_SCALE)
    ratio = module._SCALES[mixture.scales] / s
    assert np.abs(np.log2(ratio)).max() <= 1 / module.SCALES_PER_OCTAVE


@pytest.mark.parametrize("n", [1, 500])
def test_a_row_does_not_depend_on_its_neighbours(n: int) -> None:
    mixture = fixed_point(*parameters(n, 2))
    centre = mixture.means[:, 0] // 256
    whole = probabilities(mixture, centre, 16)
    for i in range(0, n, 50):
        alone = Mixture(*(values[i : i + 1] for values in mixture))
        assert np.array_equal(probabilities(alone, centre[i : i + 1], 16)[0], whole[i])


def test_the_table_of_the_normal_distribution_is_the_one_files_were_written_with() -> None:
    assert module._PHI.dtype == np.int64 and module._PHI.shape == (65_537,)
    assert hashlib.sha256(module._PHI.astype("<i8").tobytes()).hexdigest() == PHI_SHA256


def test_a_chunk_is_the_one_this_format_has_always_had() -> None:
    assert golden() == GOLDEN_SHA256


def golden() -> str:
    """Of all that decides a chunk: the grids, every probability, the coder's bytes."""
    digest = hashlib.sha256()
    for array in (module._SLOPES, module._REACHES, *fixed_point(*of_floats())):
        digest.update(array.astype("<i8").tobytes())
    for K in (1, 2, 3):
        symbols, mixture = of_integers(2000, K)
        digest.update(encode_mixture(symbols, mixture))
    return digest.hexdigest()


def of_floats() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floats that lie nowhere near a boundary of the grids."""
    i = np.arange(1000)[:, None]
    weights = np.concatenate(((i % 100 + 0.25) / 128, 1 - (i % 100 + 0.25) / 128), axis=1)
    means = np.concatenate((i - 500.1, (i % 7) / 3 + 0.001), axis=1)
    octaves = np.concatenate((i % 100 / 16 - 2 + 0.01, i % 50 / 8 - 3 + 0.01), axis=1)
    return weights, means, 2.0**octaves


def test_integers_do_not_depend_on_threads() -> None:
    here = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        here.append(golden())
    torch.set_num_threads(before)
    tests = Path(__file__).parent
    script = "import test_mixture; print(test_mixture.golden())"
    paths = os.pathsep.join((str(tests), str(tests.parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": paths}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = "2"
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert {*here, there.stdout.strip()} == {golden()}


def test_a_malformed_chunk_is_refused() -> None:
    symbols, mixture = of_integers(100, 2)
    chunk = encode_mixture(symbols, mixture)
    for bad in (chunk[:-1], chunk[:-2], chunk[:-3], chunk + b"\1", chunk + bytes(4), bytes(4)):
        with pytest.raises(BitstreamError):
            decode_mixture(bad, mixture)


def test_other_bytes_decode_to_something_and_never_fail_otherwise() -> None:
    """The checksum of the latents tells; the coder itself must only survive."""
    symbols, mixture = of_integers(300, 2)
    chunk = encode_mixture(symbols, mixture)
    rng = np.random.default_rng(0)
    changed = 0
    for words in range(0, len(chunk) // 4, 5):
        for bad in (chunk[: 4 * words], rng.bytes(4 * words), rng.bytes(4 * words) + b"\1" * 4):
            try:
                decoded = decode_mixture(bad, mixture)
            except BitstreamError:
                continue
            assert decoded.shape == symbols.shape
            changed += not np.array_equal(decoded, symbols)
    assert changed > 20


def test_widths_beyond_the_widest_window_are_coded_too() -> None:
    """Components so far apart that no window holds both."""
    means = np.array([[-30_000.0, 30_000.0], [0, 9_000], [-1e9, 1e9]])
    mixture = fixed_point(np.full((3, 2), 0.5), means, np.full((3, 2), 2.0))
    symbols = np.array([30_001, 8_999, -32_768])
    assert np.array_equal(decode_mixture(encode_mixture(symbols, mixture), mixture), symbols)
