"""Prior of the weights, block by block, and whitened coordinates in which its covariance is the unit matrix.

A block has a prior independent of the others: the sparse points of one element in a many-body term, or of one pair of elements in a
pair term.
With K_b + jitter = L L' for an energy scale of 1 eV, a row k of covariances with the block's points becomes z = L^-1 k, and
coefficients v = L^-T u have the prior u ~ N(0, s_b^2 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import solve_triangular

from ..terms.linear_algebra import prior_factor
from ..terms.protocol import FittedTerm


@dataclass(frozen=True)
class Prior:
    """Prior of all blocks of all terms, in order.

    Parameters
    ----------
    factors : tuple of (n, n) arrays
        L of every block, empty for a block without points.
    """

    factors: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, unit_terms: Sequence[FittedTerm], jitter: float) -> Prior:
        """Prior for terms with energy scales of 1 eV; FitError if a block is not positive definite."""
        return cls(tuple(prior_factor(t.between(p, p), jitter) for t in unit_terms for p in t.points))

    @cached_property
    def slices(self) -> list[slice]:
        """Columns of every block."""
        ends = np.cumsum([0, *map(len, self.factors)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @property
    def n_columns(self) -> int:
        """M."""
        return sum(map(len, self.factors))

    def expanded(self, scales: np.ndarray) -> np.ndarray:
        """Expand block values (n_blocks,) to columns (M,)."""
        return np.repeat(scales, [len(factor) for factor in self.factors])

    def whitened(self, rows: np.ndarray) -> np.ndarray:
        """Whiten rows: z (n, M) from k (n, M)."""
        out = np.empty((len(rows), self.n_columns))
        for part, factor in zip(self.slices, self.factors, strict=True):
            if len(factor) and len(rows):
                out[:, part] = solve_triangular(factor, rows[:, part].T, lower=True, check_finite=False).T
        return out

    def coefficients(self, whitened: np.ndarray) -> np.ndarray:
        """Coefficients v (M,) from whitened ones u (M,)."""
        out = np.empty(self.n_columns)
        for part, factor in zip(self.slices, self.factors, strict=True):
            if len(factor):
                out[part] = solve_triangular(factor, whitened[part], lower=True, trans="T", check_finite=False)
        return out

    def times_transposed(self, matrix: np.ndarray) -> np.ndarray:
        """Transform the columns of a matrix (n, M) from whitened to original coordinates: multiply every block by its L'."""
        out = np.empty_like(matrix)
        for part, factor in zip(self.slices, self.factors, strict=True):
            out[:, part] = matrix[:, part] @ factor.T
        return out

    def with_points(self, old: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> Prior:
        """Prior with additional points at the end of every block.

        `old` are covariances (n_old, n_new) of the new points with the existing ones, `new` covariances (n_new, n_new) among them,
        including the jitter; FitError if a block is not positive definite.
        """
        factors = []
        for factor, known, own in zip(self.factors, old, new, strict=True):
            if not len(own):
                factors.append(factor)
                continue
            left = solve_triangular(factor, known, lower=True, check_finite=False) if len(factor) else known
            corner = prior_factor(own - left.T @ left, 0.0)
            factors.append(np.block([[factor, np.zeros((len(factor), len(own)))], [left.T, corner]]))
        return Prior(tuple(factors))
