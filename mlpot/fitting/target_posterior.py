"""Gaussian process of a target in the space of its labels: scales and noise by evidence, exact errors of structures left out.

With features x of the labels and prior standard deviations S of their weights, labels y are normal of covariance X S^2 X' + sigma^2.
The scales of the blocks of features and sigma maximise the probability of the labels (Rasmussen, Williams, Gaussian Processes for
Machine Learning (2006), section 5.4.1). The weights that all labels determine lie in the span of S X', whose orthonormal
directions W make the problem a ridge regression on z = x S W: exact if all rows are used for W, else the projected process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, eigh, lapack
from scipy.optimize import minimize

from ..errors import FitError

EVIDENCE_ROWS = 450
"""Rows from which the scales of blocks follow, at most: a few numbers, and the cost grows with the cube."""
SMALLEST_NOISE = 1e-5
"""Relative to the spread of the labels."""
FREE = 3.0
"""Standard deviation of the logarithms of variances about their starting values: only a few labels leave them there."""
RANGE = 14.0
"""Largest logarithm of the ratio of a variance to its starting value."""
START = -9.0
"""Logarithm of the variance of the noise relative to the labels at the start: 1 %."""
STEPS = 30
"""Most steps of the search for the largest evidence."""
RIDGE = 1e-9
"""Relative to the mean variance of a label: keeps covariances positive definite, whatever the scales that the search tries."""
ROUNDING = 1e-12
"""Eigenvalues of the covariance relative to the largest that are rounding."""
UNTOLD = 0.1
"""Variance by which leaving out directions may raise the mean variance of a label, relative to the noise."""


def block_scales(kernels: Sequence[np.ndarray], values: np.ndarray, noise: float | None) -> np.ndarray:
    """Standard deviations (n_blocks,) of the prior of every block of features, by evidence.

    Parameters
    ----------
    kernels : sequence of (n, n) arrays
        X X' of the features of every block.
    values : (n,) array
        Labels.
    noise : float or None
        Standard deviation of the labels; None: found as well.

    Raises
    ------
    FitError
        If all labels vanish.
    """
    n, spread = len(values), float(np.mean(values**2))
    if not spread > 0:
        raise FitError("targets: the labels do not vary, or vanish everywhere; there is nothing to learn")
    means = np.array([float(np.mean(np.diagonal(kernel))) for kernel in kernels])
    starts = spread / (len(kernels) * np.where(means > 0, means, 1.0))
    never_singular = RIDGE / len(kernels) * np.eye(n)
    scaled = [start / spread * kernel + never_singular for start, kernel in zip(starts, kernels, strict=True)]
    y = values / np.sqrt(spread)
    fixed = None if noise is None else float(np.log(max(noise**2 / spread, SMALLEST_NOISE**2)))

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the logarithm of the evidence and of the prior of x, and its gradient."""
        logs = np.append(x[:-1], x[-1] if fixed is None else fixed)
        sizes = np.exp(logs)
        covariance = sizes[-1] * np.eye(n) + sum(size * kernel for size, kernel in zip(sizes[:-1], scaled, strict=True))
        factor, failed = lapack.dpotrf(covariance, lower=1, clean=1)
        if failed:
            return np.inf, np.zeros_like(x)
        inverse = lapack.dpotri(factor, lower=1)[0]
        inverse += np.tril(inverse, -1).T
        alpha = cho_solve((factor, True), y)
        found = 0.5 * float(y @ alpha) + float(np.log(np.diagonal(factor)).sum())
        slopes = [
            0.5 * size * (np.vdot(inverse, kernel) - alpha @ kernel @ alpha)
            for size, kernel in zip(sizes[:-1], scaled, strict=True)
        ]
        last = 0.5 * sizes[-1] * (np.trace(inverse) - alpha @ alpha) if fixed is None else 0.0
        away = x - x0
        return found + 0.5 * float(away @ away) / FREE**2, np.append(slopes, last) + away / FREE**2

    x0 = np.append(np.zeros(len(kernels)), START)
    bounds = [(-RANGE, RANGE)] * len(kernels) + [(2 * np.log(SMALLEST_NOISE), 0.0)]
    best = minimize(cost, x0, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS, "ftol": 1e-6})
    return np.sqrt(starts * np.exp(best.x[:-1]))


def span(features: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Orthonormal columns W (n_features, n) that span S X' of rows X (n_rows, n_features) and scales S (n_features,)."""
    scaled = features * scales
    few = len(scaled) < len(scales)
    values, vectors = eigh(scaled @ scaled.T if few else scaled.T @ scaled, check_finite=False)
    kept = values > ROUNDING * max(values[-1], 1e-300)
    return scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])) if few else vectors[:, kept]


@dataclass(frozen=True)
class TargetPosterior:
    """Ridge regression of labels on z, whose weights have a prior variance of 1.

    Parameters
    ----------
    z : (n, r) array
    values : (n,) array
        Labels.
    given : float or None
        Standard deviation of the labels; None: the one of largest evidence.
    """

    z: np.ndarray
    values: np.ndarray
    given: float | None = None

    @cached_property
    def _modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (r,) and eigenvectors (r, r) of z'z."""
        found, vectors = eigh(self.z.T @ self.z, check_finite=False)
        return np.maximum(found, 0.0), vectors

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the labels."""
        if self.given is not None:
            return self.given
        n, square = len(self.values), float(self.values @ self.values)
        found, vectors = self._modes
        along = (vectors.T @ (self.z.T @ self.values)) ** 2
        sizes = np.sqrt(square / n) * np.geomspace(SMALLEST_NOISE, 1.0, 400)  # of steps of 3 %

        def evidence(sigma: float) -> float:
            left = (square - float(np.sum(along / (found + sigma**2)))) / sigma**2
            prior = float((2 * np.log(sigma / sizes[-1]) - START) / FREE) ** 2
            return -0.5 * (left + float(np.sum(np.log1p(found / sigma**2))) + 2 * n * np.log(sigma) + prior)

        return max(sizes.tolist(), key=evidence)

    @cached_property
    def solution(self) -> np.ndarray:
        """Weights (r,)."""
        found, vectors = self._modes
        return vectors @ ((vectors.T @ (self.z.T @ self.values)) / (found + self.noise**2))

    def left_out(self, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Errors (n,) of structures, each predicted by all others, and their standard deviations: exact for given noise and scales.

        With H the block of z (z'z + sigma^2)^-1 z' of a structure, the error becomes (1 - H)^-1 e, its covariance
        sigma^2 (1 - H)^-1. Rows of structure k are offsets[k]:offsets[k + 1].
        """
        modes, vectors = self._modes
        half = self.z @ (vectors / np.sqrt(modes + self.noise**2))
        errors = self.z @ self.solution - self.values
        found, deviations = np.empty(len(errors)), np.empty(len(errors))
        for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            inverse = np.linalg.inv(np.eye(b - a) - half[a:b] @ half[a:b].T)
            found[a:b] = inverse @ errors[a:b]
            deviations[a:b] = self.noise * np.sqrt(np.maximum(np.diagonal(inverse), 1.0))
        return found, deviations

    @cached_property
    def known(self) -> np.ndarray:
        """Columns k (r, n_known): the covariance of the weights is 1 - k k', up to directions that hardly lower it."""
        found, vectors = self._modes
        lowered = found / (found + self.noise**2)
        untold = np.cumsum(found * lowered) / len(self.values)
        kept = untold > UNTOLD * self.noise**2
        return vectors[:, kept] * np.sqrt(lowered[kept])
