"""The prior of the weights, block by block, and coordinates in which it is the unit matrix.

A block is what has a prior of its own: one element's sparse points in a many-body term, one pair of elements in a pair term.
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
    """Of all blocks of all terms, in their order.

    Parameters
    ----------
    factors : tuple of (n, n) arrays
        L of every block, empty for a block without points.
    """

    factors: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, unit_terms: Sequence[FittedTerm], jitter: float) -> Prior:
        """For terms with energy scales of 1 eV; FitError where a block is not positive definite."""
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
        """Values (M,) of every column from those (n_blocks,) of blocks."""
        return np.repeat(scales, [len(factor) for factor in self.factors])

    def whitened(self, rows: np.ndarray) -> np.ndarray:
        """Rows z (n, M) of rows k (n, M)."""
        out = np.empty((len(rows), self.n_columns))
        for part, factor in zip(self.slices, self.factors, strict=True):
            if len(factor) and len(rows):
                out[:, part] = solve_triangular(factor, rows[:, part].T, lower=True, check_finite=False).T
        return out

    def coefficients(self, whitened: np.ndarray) -> np.ndarray:
        """v (M,) of u (M,)."""
        out = np.empty(self.n_columns)
        for part, factor in zip(self.slices, self.factors, strict=True):
            if len(factor):
                out[part] = solve_triangular(factor, whitened[part], lower=True, trans="T", check_finite=False)
        return out

    def times_transposed(self, matrix: np.ndarray) -> np.ndarray:
        """Columns of a matrix (n, M) in whitened coordinates -> in those of v: every block times its L'."""
        out = np.empty_like(matrix)
        for part, factor in zip(self.slices, self.factors, strict=True):
            out[:, part] = matrix[:, part] @ factor.T
        return out

    def with_points(self, old: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> Prior:
        """With more points at the end of every block: covariances (n_old, n_new) with those that are there and (n_new, n_new),
        jitter included, of the new ones; FitError where they are not positive definite."""
        factors = []
        for factor, known, own in zip(self.factors, old, new, strict=True):
            if not len(own):
                factors.append(factor)
                continue
            left = solve_triangular(factor, known, lower=True, check_finite=False) if len(factor) else known
            corner = prior_factor(own - left.T @ left, 0.0)
            factors.append(np.block([[factor, np.zeros((len(factor), len(own)))], [left.T, corner]]))
        return Prior(tuple(factors))
