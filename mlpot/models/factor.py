"""What least squares needs of any number of rows: a triangle that absorbs them, so that no matrix is ever held whole.

Orthogonal transformations only, never normal equations: the condition number is that of the rows, not its square.
Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, A206 (2012), doi:10.1137/080731992 (TSQR).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..errors import FitError

PANEL = 64
"""Columns that LAPACK's block reflectors take at a time."""
ROWS_AT_ONCE = 1024
"""Rows that are worth folding into a triangle together."""


class TriangularFactor:
    """The upper triangle R of the orthogonal factorisation of all rows absorbed so far: R'R is the sum of their squares.

    As long as there are fewer rows than columns they are kept as they came.

    Parameters
    ----------
    n_columns : int

    Attributes
    ----------
    rows : (n, n_columns) Fortran-ordered array
        An upper triangle, or what has come.
    n_rows : int
        Rows absorbed.
    """

    def __init__(self, n_columns: int):
        self.rows = np.empty((0, n_columns), order="F")
        self.n_rows = 0

    @classmethod
    def of(cls, triangle: np.ndarray) -> TriangularFactor:
        """The factor whose triangle is given, (n_columns, n_columns) in Fortran order; it is overwritten later."""
        factor = cls(len(triangle))
        factor.rows = triangle
        return factor

    @property
    def n_columns(self) -> int:
        return self.rows.shape[1]

    @property
    def triangle(self) -> np.ndarray:
        """(n_columns, n_columns)."""
        if not self._is_triangle:
            self._reduce(np.empty((0, self.n_columns)))
        return self.rows

    @property
    def _is_triangle(self) -> bool:
        return len(self.rows) == self.n_columns

    def absorb(self, rows: np.ndarray) -> None:
        """Fold rows (n, n_columns) into the triangle."""
        self.n_rows += len(rows)
        if not self._is_triangle and len(self.rows) + len(rows) < self.n_columns:
            self.rows = np.asfortranarray(np.concatenate([self.rows, rows]))
        elif len(rows):
            self._reduce(rows)

    def merge(self, other: TriangularFactor, scale: float = 1.0) -> None:
        """Absorb the rows of another factor times a number."""
        if not other._is_triangle:
            self.absorb(scale * other.rows)
            return
        triangle = self.triangle
        self.n_rows += other.n_rows
        self.rows, _, _ = fold(triangle, scale * other.rows, upper=True)

    def _reduce(self, rows: np.ndarray) -> None:
        if not self._is_triangle:
            rows = np.concatenate([self.rows, rows])
            self.rows = np.zeros((self.n_columns, self.n_columns), order="F")
        self.rows, _, _ = fold(self.rows, rows)


def fold(triangle: np.ndarray, rows: np.ndarray, upper: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R of [triangle; rows], and the reflections that make it: vectors (n_rows, n), triangles (panel, n).

    Rows that are an `upper` triangle themselves cost a third. `triangle` is overwritten if it is Fortran-ordered.
    """
    panel = min(PANEL, len(triangle))
    result, vectors, triangles, info = lapack.dtpqrt(
        len(rows) if upper else 0, panel, triangle, np.array(rows, order="F"), overwrite_a=True, overwrite_b=True
    )
    if info:
        raise FitError(f"LAPACK's dtpqrt refused argument {-info}")
    return result, vectors, triangles


def condition(upper: np.ndarray) -> float:
    """Estimate of the condition number of an upper triangular matrix in the 1-norm."""
    reciprocal, _ = lapack.dtrcon(upper, norm="1", uplo="U", diag="N")
    return float(1 / reciprocal) if reciprocal > 0 else float("inf")


def prior_factor(covariance: np.ndarray, variance: float) -> np.ndarray:
    """Lower Cholesky factor of a block of K_mm with `variance` (in its unit) added to the diagonal.

    Raises
    ------
    FitError
        If the block is not positive definite even so.
    """
    shifted = covariance + variance * np.eye(len(covariance))
    factor, info = lapack.dpotrf(shifted, lower=True, clean=True)
    if info:
        raise FitError(
            f"K_mm of {len(covariance)} sparse points is not positive definite with {variance:.1e} on its diagonal; "
            "raise fit.jitter or lower n_sparse"
        )
    return factor


def inverse_lower(factor: np.ndarray) -> np.ndarray:
    """Inverse of a lower triangular matrix without zeros on its diagonal."""
    inverse, _ = lapack.dtrtri(factor, lower=1)
    return np.ascontiguousarray(inverse)


def solve_upper(upper: np.ndarray, right: np.ndarray, transposed: bool = False) -> np.ndarray:
    """R^-1 or R^-T times a vector or the columns of a matrix."""
    return solve_triangular(upper, right, trans="T" if transposed else "N", check_finite=False)
