"""Feature reconstruction errors: how much of a set of features linear maps of another one contain.

Goscinski, Fraux, Imbalzano, Ceriotti, Mach. Learn.: Sci. Technol. 2, 025028 (2021), doi:10.1088/2632-2153/abdaf7:

    GFRE(X, Y) = |Y' - X' W| / sqrt(n_test)             W: least squares on training rows, X and Y centred and scaled to norm 1 there
    LFRE(X, Y): the same with a W for every test row, fitted to its nearest training rows

Singular values of X below a part of the largest are left out, the part that predicts best from one half of the training rows to the
other. 0: X contains Y; 1: X knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError

PARTS = np.geomspace(1e-9, 0.9, 20)
"""Smallest singular values that are kept, in units of the largest."""


@dataclass(frozen=True)
class Split:
    """Rows (indices) for training and testing; `halves` are two parts of the training rows, indices among these."""

    training: np.ndarray
    testing: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, n: int, rng: np.random.Generator) -> Split:
        """Split n rows at random into halves, and the first one again."""
        order = rng.permutation(n)
        first = order[: n // 2]
        inner = rng.permutation(len(first))
        return cls(first, order[n // 2 :], (inner[: len(inner) // 2], inner[len(inner) // 2 :]))


def global_error(x: np.ndarray, y: np.ndarray, split: Split) -> float:
    """GFRE of features y (n, n_y) from features x (n, n_x).

    Raises
    ------
    DataError
        If the features of one set are the same in all training rows, so that there is nothing to explain or to explain it with.
    """
    (train_x, test_x), (train_y, test_y) = _scaled(x, split), _scaled(y, split)
    residual = test_y - test_x @ _weights(train_x, train_y, split.halves)
    return float(np.linalg.norm(residual) / np.sqrt(len(residual)))


def local_error(x: np.ndarray, y: np.ndarray, split: Split, halves: tuple[np.ndarray, np.ndarray]) -> float:
    """LFRE of features y (n, n_y) from features x (n, n_x); errors as `global_error`.

    As many nearest training rows are used as there are in `halves`, two parts of their ranks, for the choice of singular values.
    """
    n_local = sum(map(len, halves))
    (train_x, test_x), (train_y, test_y) = _scaled(x, split), _scaled(y, split)
    squares = np.sum(train_x**2, axis=1) - 2 * test_x @ train_x.T
    residuals = []
    for row, own in enumerate(np.argsort(squares, axis=1)[:, :n_local]):
        mean_x, mean_y = train_x[own].mean(axis=0), train_y[own].mean(axis=0)
        weights = _weights(train_x[own] - mean_x, train_y[own] - mean_y, halves)
        residuals.append(test_y[row] - mean_y - (test_x[row] - mean_x) @ weights)
    return float(np.linalg.norm(residuals) / np.sqrt(len(residuals)))


def _scaled(features: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows, shifted and scaled as a whole so that training rows have mean 0 and mean square 1."""
    training = features[split.training]
    mean = training.mean(axis=0)
    size = float(np.sqrt(np.sum((training - mean) ** 2) / len(training)))
    if not size > 1e-12 * max(float(np.abs(training).max(initial=0.0)), 1e-300):
        raise DataError("features are the same in all structures; a reconstruction error needs different ones")
    return (training - mean) / size, (features[split.testing] - mean) / size


def _weights(x: np.ndarray, y: np.ndarray, halves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Least squares (n_x, n_y) without small singular values."""
    decomposed = [np.linalg.svd(x[half], full_matrices=False) for half in halves]
    largest = max(float(s.max(initial=0.0)) for _, s, _ in decomposed)
    errors = []
    for part in PARTS:
        found = []
        for own, other in ((0, 1), (1, 0)):
            weights = _solved(*decomposed[own], y[halves[own]], part * largest)
            residual = y[halves[other]] - x[halves[other]] @ weights
            # mean over columns of root mean squares, as multi-output scores of scikit-learn
            found.append(float(np.mean(np.sqrt(np.mean(residual**2, axis=0)))))
        errors.append(0.5 * sum(found))
    return _solved(*np.linalg.svd(x, full_matrices=False), y, float(PARTS[int(np.argmin(errors))]) * largest)


def _solved(u: np.ndarray, s: np.ndarray, vt: np.ndarray, y: np.ndarray, least: float) -> np.ndarray:
    kept = s > max(least, 1e-15)
    return vt[kept].T @ ((u[:, kept].T @ y) / s[kept, None])
