"""Small linear algebra: Cholesky factors, triangular inverses and solves, condition numbers."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..errors import FitError


def condition(upper: np.ndarray) -> float:
    """Estimate of the condition number of an upper triangular matrix in the 1-norm."""
    reciprocal, _ = lapack.dtrcon(upper, norm="1", uplo="U", diag="N")
    return float(1 / reciprocal) if reciprocal > 0 else float("inf")


def prior_factor(covariance: np.ndarray, variance: float) -> np.ndarray:
    """Lower Cholesky factor of a block of K_mm with `variance` (in its unit) added to the diagonal.

    Raises
    ------
    FitError
        If the block is not positive definite even with this addition.
    """
    shifted = covariance + variance * np.eye(len(covariance))
    factor, info = lapack.dpotrf(shifted, lower=True, clean=True)
    if info:
        raise FitError(
            f"K_mm of {len(covariance)} sparse points is not positive definite with {variance:.1e} added to its diagonal; "
            "increase fit.jitter or reduce n_sparse"
        )
    return factor


def inverse_lower(factor: np.ndarray) -> np.ndarray:
    """Inverse of a lower triangular matrix without zeros on its diagonal."""
    inverse, _ = lapack.dtrtri(factor, lower=1)
    return np.ascontiguousarray(inverse)


def solve_upper(upper: np.ndarray, right: np.ndarray, transposed: bool = False) -> np.ndarray:
    """Solve with R or R^T for a vector or for the columns of a matrix."""
    return solve_triangular(upper, right, trans="T" if transposed else "N", check_finite=False)
