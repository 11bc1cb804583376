"""The triangular factor of a fit: it absorbs blocks of rows, so the design matrix is never held whole.

With A = [K_mm^(1/2); Sigma^(-1/2) K_nm] and y the whitened labels, R is the upper triangular factor of A and z = Q'y, both
kept as one (M+1, M+1) triangle of [A y]. Orthogonal transformations only, never normal equations: the condition number
is that of A, not its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..errors import FitError

PANEL = 64
"""Columns that LAPACK's block reflectors take at a time."""


@dataclass
class TriangularFactor:
    """Upper triangle of the orthogonal factorisation of all rows absorbed so far.

    Parameters
    ----------
    triangle : (M + 1, M + 1) Fortran-ordered array
        The last column belongs to the labels; its last element squared is the residual sum of squares.
    """

    triangle: np.ndarray

    @classmethod
    def from_prior(cls, prior_factors: list[np.ndarray]) -> TriangularFactor:
        """The factor before any data, from lower Cholesky factors of the blocks of K_mm."""
        size = sum(len(block) for block in prior_factors)
        triangle = np.zeros((size + 1, size + 1), order="F")
        begin = 0
        for block in prior_factors:
            end = begin + len(block)
            triangle[begin:end, begin:end] = block.T
            begin = end
        return cls(triangle)

    @property
    def size(self) -> int:
        return len(self.triangle) - 1

    def absorb(self, rows: np.ndarray) -> None:
        """Fold whitened rows (n, M + 1), labels last, into the triangle; `rows` is overwritten."""
        if not len(rows):
            return
        panel = min(PANEL, len(self.triangle))
        triangle, _, _, info = lapack.dtpqrt(
            0, panel, self.triangle, np.asfortranarray(rows), overwrite_a=True, overwrite_b=True
        )
        if info:
            raise FitError(
                f"LAPACK's dtpqrt refused argument {-info}; the design matrix holds a value that is not finite"
            )
        self.triangle = triangle

    @property
    def upper(self) -> np.ndarray:
        """R, (M, M): R'R = K_mm + K_mn Sigma^-1 K_nm."""
        return self.triangle[:-1, :-1]

    def solve(self) -> np.ndarray:
        """Weights (M,) that minimise |Sigma^(-1/2) (y - K_nm w)|^2 + w' K_mm w."""
        if not np.all(np.isfinite(self.triangle)):
            raise FitError("the design matrix holds values that are not finite; check the structures and their labels")
        return solve_triangular(self.upper, self.triangle[:-1, -1])


def condition(upper: np.ndarray) -> float:
    """Estimate of the condition number of an upper triangular matrix in the 1-norm."""
    reciprocal, _ = lapack.dtrcon(upper, norm="1", uplo="U", diag="N")
    return float(1 / reciprocal) if reciprocal > 0 else float("inf")


def prior_factor(covariance: np.ndarray, jitter: float, variance: float = 0.0) -> np.ndarray:
    """Lower Cholesky factor of a block of K_mm with `jitter` times its mean diagonal and `variance` (eV^2) added.

    Raises
    ------
    FitError
        If the block is not positive definite even so.
    """
    shifted = covariance + (jitter * np.mean(np.diag(covariance)) + variance) * np.eye(len(covariance))
    factor, info = lapack.dpotrf(shifted, lower=True, clean=True)
    if info:
        raise FitError(
            f"K_mm of {len(covariance)} sparse points is not positive definite with jitter = {jitter}; "
            "raise fit.jitter or lower n_sparse"
        )
    return factor


def inverse_lower(factor: np.ndarray) -> np.ndarray:
    """Inverse of a lower triangular matrix without zeros on its diagonal."""
    inverse, _ = lapack.dtrtri(factor, lower=1)
    return np.ascontiguousarray(inverse)
