"""Selection of representative environments from features (n_candidates, n_features) in memory.

`fitting.streamed_selection` applies these methods in chunks if there are too many environments. Features are normalised throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .kernels import Kernel
from .linear_algebra import prior_factor

KNOWN_JITTER = 1e-10
"""Relative jitter on the covariance of points chosen before; far below any tolerance."""
DUPLICATE = 1e-12
"""Smallest unexplained fraction of the prior variance of a candidate; closer ones would make K_mm singular."""
RIDGE = 1e-12
"""Regularisation relative to the trace of the Gram matrix: directions far below it are rounding and contribute no leverage."""


class Distinct:
    """Detector of duplicate environments, such as in perfect crystals.

    Each environment is remembered by two projections of its features on random directions, rounded to 1e-8.

    Parameters
    ----------
    known : (n_known, n_features) array
        Environments that count as already seen.
    """

    def __init__(self, known: np.ndarray):
        self._directions = np.random.default_rng(0).standard_normal((known.shape[1], 2))
        self._seen = self._fingerprints(known)

    def _fingerprints(self, features: np.ndarray) -> np.ndarray:
        """Fingerprint of each environment, a complex number; real ones would coincide by chance within about 10^5 environments."""
        return np.round(features @ self._directions, 8).view(complex)[:, 0]

    def first(self, features: np.ndarray) -> np.ndarray:
        """Mask (n,) of the environments that differ from all previous ones, in this and earlier calls."""
        fingerprints = self._fingerprints(features)
        mask = np.zeros(len(features), bool)
        mask[np.unique(fingerprints, return_index=True)[1]] = True
        mask &= ~np.isin(fingerprints, self._seen)
        self._seen = np.concatenate([self._seen, fingerprints[mask]])
        return mask


def leverage_factor(gram: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a Gram matrix X'X (n_features, n_features); a small value is added to its diagonal in place."""
    gram.flat[:: len(gram) + 1] += RIDGE * np.trace(gram)
    return linalg.cholesky(gram, lower=True, overwrite_a=True)


def leverage_scores(features: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """x (X'X)^-1 x' (n,) of environments x, from the factor of X'X; `features` (n, n_features) are overwritten."""
    half = linalg.solve_triangular(factor, features.T, lower=True, overwrite_b=True)
    return np.einsum("fi,fi->i", half, half)


def by_distance(features: np.ndarray, most: int, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Farthest-point sampling: indices of at most `most` candidates, none equal to another or to a known point.

    Starts from the `known` points (n_known, n_features), or from a random candidate without any.
    """
    chosen: list[int] = []
    if len(known):
        overlap = np.max(features @ known.T, axis=1)
    else:
        chosen.append(int(rng.integers(len(features))))
        overlap = features @ features[chosen[0]]
    while len(chosen) < most:
        farthest = int(np.argmin(overlap))
        if overlap[farthest] >= 1.0 - DUPLICATE:
            break
        chosen.append(farthest)
        np.maximum(overlap, features @ features[farthest], out=overlap)
    return np.array(chosen, int)


@dataclass(frozen=True)
class ExplainedVariance:
    """Part of the prior variance of environments that is explained by a set of points.

    Parameters
    ----------
    points : (n_points, n_features) array
    factor : (n_points, n_points) array
        Lower Cholesky factor of their kernel matrix.
    kernel : Kernel
    """

    points: np.ndarray
    factor: np.ndarray
    kernel: Kernel

    @classmethod
    def by(cls, points: np.ndarray, kernel: Kernel) -> ExplainedVariance:
        """Create from points (n_points, n_features), possibly none."""
        if not len(points):
            return cls(points, np.empty((0, 0)), kernel)
        return cls(points, prior_factor(kernel.value(points @ points.T), KNOWN_JITTER), kernel)

    def _rows(self, features: np.ndarray) -> np.ndarray:
        """Rows (n_points, n); the sum of squares of a column is the explained part of the variance."""
        if not len(self.points):
            return np.empty((0, len(features)))
        covariance = self.kernel.value(self.points @ features.T)
        return linalg.solve_triangular(self.factor, covariance, lower=True, overwrite_b=True)

    def unexplained(self, features: np.ndarray) -> np.ndarray:
        """Fraction (n,) of the prior variance of environments that the points leave unexplained."""
        rows = self._rows(features)
        return 1.0 - np.einsum("si,si->i", rows, rows)

    def choose(self, features: np.ndarray, most: int, tolerance: float) -> np.ndarray:
        """Indices of at most `most` candidates, each with the largest variance unexplained by the points before it.

        Stops when no candidate has more than a fraction `tolerance` of its prior variance left.
        """
        return self._greedy(features, most, tolerance)[0]

    def extended(self, features: np.ndarray, most: int, tolerance: float) -> tuple[ExplainedVariance, float]:
        """Add the points found by `choose`; also return the largest remaining fraction of a candidate's prior variance."""
        chosen, rows, left = self._greedy(features, most, tolerance)
        n_known, n_points = len(self.points), len(rows)
        factor = np.zeros((n_points, n_points))
        factor[:n_known, :n_known] = self.factor
        # the new points are among the candidates: their columns of the factorisation are the new rows of the factor
        factor[n_known:] = np.tril(rows[:, chosen].T, n_known)
        return ExplainedVariance(np.concatenate([self.points, features[chosen]]), factor, self.kernel), left

    def _greedy(self, features: np.ndarray, most: int, tolerance: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Pivoted Cholesky factorisation of the kernel: pivots, rows (n_points + n_chosen, n), largest residual."""
        known = self._rows(features)
        residual = 1.0 - np.einsum("si,si->i", known, known)
        rank = len(known)
        rows = np.empty((rank + max(min(most, len(features)), 0), len(features)))
        rows[:rank] = known
        chosen: list[int] = []
        while rank < len(rows) and residual.max() > tolerance:
            pivot = int(np.argmax(residual))
            covariance = self.kernel.value(features[pivot : pivot + 1] @ features.T)[0]
            rows[rank] = (covariance - rows[:rank, pivot] @ rows[:rank]) / np.sqrt(residual[pivot])
            residual -= rows[rank] ** 2
            residual[pivot] = 0.0
            chosen.append(pivot)
            rank += 1
        return np.array(chosen, int), rows[:rank], float(residual.max())


def pivots(features: np.ndarray, zeta: int, most: int) -> list[int]:
    """Indices of at most `most` environments (n, n_features): pivots of the Cholesky factorisation of the kernel (p . p')^zeta of
    features that are not normalised, each the one with the largest variance unexplained by those before it."""
    residual = np.einsum("nf,nf->n", features, features) ** zeta
    rows, chosen, least = np.empty((min(most, len(features)), len(features))), list[int](), 1e-10 * residual.max(initial=0.0)
    while len(chosen) < len(rows) and residual.max() > least:
        pivot, known = int(np.argmax(residual)), rows[: len(chosen)]
        covariance = (features @ features[pivot]) ** zeta
        rows[len(chosen)] = (covariance - known[:, pivot] @ known) / np.sqrt(residual[pivot])
        residual -= rows[len(chosen)] ** 2
        chosen.append(pivot)
        residual[chosen] = 0.0
    return chosen


def extend_by_variance(
    known: np.ndarray, features: np.ndarray, most: int, kernel: Kernel, tolerance: float
) -> np.ndarray:
    """Indices of at most `most` candidates whose variance the `known` points (n_known, n_features) leave unexplained.

    Stops when no candidate has more than `tolerance` of its prior variance left.
    """
    return ExplainedVariance.by(known, kernel).choose(features, most, tolerance)
