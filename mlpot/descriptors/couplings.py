"""Clebsch-Gordan coefficients of real spherical harmonics, and vectors and symmetric matrices as spherical components.

Real harmonics as in the compiled core: order -l..l, Y_1 along (y, z, x). The coefficients follow from Racah's formula (Edmonds,
Angular Momentum in Quantum Mechanics (1957), 3.6.11), turned to real harmonics.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, sqrt

import numpy as np

VECTOR = np.eye(3)[[1, 2, 0]]
"""Rows: Cartesian vectors of the orders -1, 0, 1."""
TRACELESS = np.array([
    [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
    [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
    [[-1 / sqrt(3), 0, 0], [0, -1 / sqrt(3), 0], [0, 0, 2 / sqrt(3)]],
    [[0, 0, 1], [0, 0, 0], [1, 0, 0]],
    [[1, 0, 0], [0, -1, 0], [0, 0, 0]],
]) / sqrt(2)  # fmt: skip
"""Orthonormal symmetric matrices without trace of the orders -2..2."""
TRACE = np.eye(3)[None] / sqrt(3)
PARTS = {0: {0: np.ones((1,))}, 1: {1: VECTOR}, 2: {0: TRACE, 2: TRACELESS}}
"""Cartesian tensors (2 degree + 1, ...) of the orders by rank of a target and degree, orthonormal."""


def components(values: np.ndarray, rank: int, degree: int) -> np.ndarray:
    """Spherical components (..., 2 degree + 1) of Cartesian values (...,), (..., 3) or (..., 3, 3)."""
    basis = PARTS[rank][degree].reshape(2 * degree + 1, -1)
    return np.reshape(values, (*np.shape(values)[: np.ndim(values) - rank], -1)) @ basis.T


def cartesian(parts: np.ndarray, rank: int, degree: int) -> np.ndarray:
    """Cartesian values (...,), (..., 3) or (..., 3, 3) of spherical components (..., 2 degree + 1)."""
    basis = PARTS[rank][degree].reshape(2 * degree + 1, -1)
    return (parts @ basis).reshape(*np.shape(parts)[:-1], *(3,) * rank)


def cartesian_variance(covariance: np.ndarray, rank: int, degree: int) -> np.ndarray:
    """Variances (...,), (..., 3) or (..., 3, 3) of Cartesian components from covariances (..., 2 degree + 1, 2 degree + 1) of
    spherical ones."""
    basis = PARTS[rank][degree].reshape(2 * degree + 1, -1)
    found = np.einsum("...mn,mc,nc->...c", covariance, basis, basis)
    return found.reshape(*covariance.shape[:-2], *(3,) * rank)


def _complex(l1: int, m1: int, l2: int, m2: int, l: int) -> float:
    """<l1 m1 l2 m2 | l m1 + m2>."""
    m = m1 + m2
    f = factorial
    size = (2 * l + 1) * f(l + l1 - l2) * f(l - l1 + l2) * f(l1 + l2 - l) / f(l1 + l2 + l + 1)
    size *= f(l + m) * f(l - m) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = 0.0
    for k in range(l1 + l2 - l + 1):
        terms = (k, l1 + l2 - l - k, l1 - m1 - k, l2 + m2 - k, l - l2 + m1 + k, l - l1 - m2 + k)
        if min(terms) >= 0:
            total += (-1) ** k / np.prod([float(f(n)) for n in terms])
    return sqrt(size) * total


def _to_real(l: int) -> np.ndarray:
    """Unitary matrix (2l + 1, 2l + 1) from complex to real harmonics."""
    matrix = np.zeros((2 * l + 1, 2 * l + 1), complex)
    matrix[l, l] = 1.0
    for m in range(1, l + 1):
        matrix[l + m, [l + m, l - m]] = (-1) ** m / sqrt(2), 1 / sqrt(2)
        matrix[l - m, [l + m, l - m]] = -1j * (-1) ** m / sqrt(2), 1j / sqrt(2)
    return matrix


@lru_cache(maxsize=256)
def real_clebsch_gordan(l1: int, l2: int, l: int) -> np.ndarray:
    """Coefficients (2 l1 + 1, 2 l2 + 1, 2l + 1) of real harmonics, for l1 + l2 + l even; for fixed order of l their squares add up to
    1.

    Raises
    ------
    ValueError
        For an odd sum: these couplings are pseudotensors, which inversion does not treat as it treats dipoles.
    """
    if (l1 + l2 + l) % 2:
        raise ValueError(f"degrees {l1}, {l2} -> {l}: a pseudotensor")
    table = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l:
                table[l1 + m1, l2 + m2, l + m1 + m2] = _complex(l1, m1, l2, m2, l)
    found = np.einsum("am,bn,ck,mnk->abc", _to_real(l1).conj(), _to_real(l2).conj(), _to_real(l), table).real
    found[np.abs(found) < 1e-14] = 0.0
    return found
