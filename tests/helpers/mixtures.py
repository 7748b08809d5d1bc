"""Random mixtures and symbols drawn from them."""

from __future__ import annotations

import numpy as np

from lic_train.modules.entropy import mixture as module


def parameters(n: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and scales, each ``(n, K)``: broad, narrow, lopsided, far from 0."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(K, 0.7), n)
    means = rng.normal(0, 1, (n, 1)) * 10.0 ** rng.uniform(-2, 3, (n, 1)) + rng.normal(0, 3, (n, K))
    scales = 10.0 ** rng.uniform(-1.5, 2, (n, K))
    return weights, means, scales


def draw(weights: np.ndarray, means: np.ndarray, scales: np.ndarray, seed: int = 0) -> np.ndarray:
    """One symbol of each mixture."""
    rng = np.random.default_rng(seed)
    scales = np.clip(scales, module.MIN_SCALE, module.MAX_SCALE)
    rising = weights.cumsum(axis=1)
    k = np.minimum((rng.random((len(weights), 1)) > rising).sum(axis=1), weights.shape[1] - 1)
    rows = np.arange(len(weights))
    return np.rint(rng.normal(means[rows, k], scales[rows, k])).astype(np.int64)
