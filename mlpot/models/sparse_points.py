"""Which environments represent all others: indices into a matrix of features (n_candidates, n_features)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg

from ..errors import ConfigError
from .factor import prior_factor
from .kernels import dot_product_kernel

AUTO_TOLERANCE = 1e-4
"""`n_sparse = "auto"` stops when the prior variance that no sparse point explains is below this part everywhere."""
AUTO_MAXIMUM = 2000
KNOWN_JITTER = 1e-10
"""Relative jitter on the covariance of points that were chosen before; far below any tolerance."""
DUPLICATE = 1e-12
"""Candidates nearer than this to the chosen ones, relative to the prior variance, would make K_mm singular."""

Selector = Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]


def select(features: np.ndarray, n_sparse: int | str, method: str, zeta: float, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of at most `n_sparse` different candidates.

    Parameters
    ----------
    features : (n_candidates, n_features) array
        Normalised.
    n_sparse : int or "auto"
        "auto" adds the candidate of greatest variance until none exceeds `AUTO_TOLERANCE`, whatever the method.
    method : str
        "cur", "farthest", "random" or "variance".
    zeta : float
        Exponent of the kernel, for "variance".
    """
    if isinstance(n_sparse, str):
        return np.sort(by_variance(features, AUTO_MAXIMUM, zeta, rng, AUTO_TOLERANCE))
    if method not in SELECTORS:
        raise ConfigError(f"sparse_method = {method!r}: must be one of {sorted(SELECTORS)}")
    distinct = _distinct(features)
    if len(distinct) <= n_sparse:
        return distinct
    return np.sort(distinct[SELECTORS[method](features[distinct], n_sparse, zeta, rng)])


def _distinct(features: np.ndarray) -> np.ndarray:
    """Sorted indices of the first of every group of equal candidates (perfect crystals repeat themselves)."""
    fingerprint = features @ np.random.default_rng(0).standard_normal(features.shape[1])
    _, first = np.unique(np.round(fingerprint, 8), return_index=True)
    return np.sort(first)


def at_random(features: np.ndarray, n_sparse: int, zeta: float, rng: np.random.Generator) -> np.ndarray:
    """Uniformly random candidates."""
    return rng.choice(len(features), n_sparse, replace=False)


def by_leverage(features: np.ndarray, n_sparse: int, zeta: float, rng: np.random.Generator) -> np.ndarray:
    """CUR: candidates drawn with probabilities proportional to their leverage scores.

    Mahoney and Drineas, PNAS 106, 697 (2009), doi:10.1073/pnas.0803205106. Directions whose singular value is below
    1e-8 of the largest carry rounding only and are left out.
    """
    values, vectors = linalg.eigh(features.T @ features)
    keep = values > 1e-14 * values[-1]
    scores = np.sum((features @ (vectors[:, keep] / np.sqrt(values[keep]))) ** 2, axis=1)
    # Efraimidis and Spirakis' keys: a weighted draw without replacement.
    keys = np.log(rng.random(len(features))) / np.maximum(scores, 1e-300)
    return np.argpartition(keys, -n_sparse)[-n_sparse:]


def by_distance(features: np.ndarray, n_sparse: int, zeta: float, rng: np.random.Generator) -> np.ndarray:
    """Farthest point sampling from a random start."""
    chosen = [int(rng.integers(len(features)))]
    overlap = features @ features[chosen[0]]
    while len(chosen) < n_sparse:
        chosen.append(int(np.argmin(overlap)))
        np.maximum(overlap, features @ features[chosen[-1]], out=overlap)
    return np.array(chosen)


def by_variance(
    features: np.ndarray, n_sparse: int, zeta: float, rng: np.random.Generator, tolerance: float = DUPLICATE
) -> np.ndarray:
    """Greedy maximum of the variance that the chosen points leave unexplained."""
    return _greedy(features, np.ones(len(features)), np.empty((0, len(features))), n_sparse, zeta, tolerance)


def extend_by_variance(known: np.ndarray, features: np.ndarray, most: int, zeta: float, tolerance: float) -> np.ndarray:
    """Indices of at most `most` candidates whose variance the `known` points (n_known, n_features) leave unexplained.

    Stops when no candidate has more than `tolerance` of its prior variance left.
    """
    if not len(known):
        return by_variance(features, most, zeta, np.random.default_rng(0), tolerance)
    factor = prior_factor(dot_product_kernel(known, known, 1.0, zeta), KNOWN_JITTER)
    explained = linalg.solve_triangular(factor, dot_product_kernel(known, features, 1.0, zeta), lower=True)
    residual = 1.0 - np.einsum("si,si->i", explained, explained)
    return _greedy(features, residual, explained, most, zeta, tolerance)


def _greedy(
    features: np.ndarray, residual: np.ndarray, explained: np.ndarray, most: int, zeta: float, tolerance: float
) -> np.ndarray:
    """Pivoted Cholesky factorisation of the kernel, continued after rows `explained` (n_known, n_candidates)."""
    n_known = len(explained)
    rows = np.zeros((n_known + max(min(most, len(features)), 0), len(features)))
    rows[:n_known] = explained
    residual = residual.copy()
    chosen: list[int] = []
    for rank in range(n_known, len(rows)):
        pivot = int(np.argmax(residual))
        if residual[pivot] <= tolerance:
            break
        covariance = dot_product_kernel(features[pivot : pivot + 1], features, 1.0, zeta)[0]
        rows[rank] = (covariance - rows[:rank, pivot] @ rows[:rank]) / np.sqrt(residual[pivot])
        residual -= rows[rank] ** 2
        residual[pivot] = 0.0
        chosen.append(pivot)
    return np.array(chosen, int)


SELECTORS: dict[str, Selector] = {
    "cur": by_leverage,
    "farthest": by_distance,
    "random": at_random,
    "variance": by_variance,
}
