"""Polynomials of one density that are invariant under rotations and reflections.

A density A_lm, l <= l_max, is a vector of real numbers; its invariant polynomials of degree nu contain the (nu + 1)-body
information on an environment in one channel. They are the null space of the generators of rotations, a complete and independent set
for every combination of degrees l, orthonormal in the inner product in which
    sum_t B_t(A) B_t(A') = integral over rotations and reflections of (A . R A')^nu,
the kernel of Bartok, Kondor, Csanyi, doi:10.1103/PhysRevB.87.184115 (there for nu = 2 and 3; for nu = 2 the integral is the overlap
of power spectra). The sum of the degrees is even, since a product with an odd sum changes sign under reflection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import factorial, isqrt, prod

import numpy as np

Monomial = tuple[int, ...]
"""Ascending indices lm = l^2 + l + m of the factors A_lm of a product."""

NOTHING = 1e-9
"""Smaller coefficients are rounding errors."""


@dataclass(frozen=True)
class Polynomial:
    """sum_k coefficients[k] prod_{x in monomials[k]} A_x."""

    monomials: tuple[Monomial, ...]
    coefficients: tuple[float, ...]

    @property
    def degree(self) -> int:
        return len(self.monomials[0])

    def __call__(self, densities: np.ndarray) -> np.ndarray:
        """Values (...) of densities (..., n_lm), term by term."""
        terms = [
            c * densities[..., list(m)].prod(axis=-1) for m, c in zip(self.monomials, self.coefficients, strict=True)
        ]
        return np.sum(terms, axis=0)


@lru_cache(maxsize=16)
def invariant_polynomials(l_max: int, degree: int) -> tuple[Polynomial, ...]:
    """All invariants of a degree, by combinations of l.

    Invariants with an l = 0 are products of A_00 and simpler invariants. Only invariants of third degree are included, since they are
    not contained in a power spectrum of other channels.
    """
    lowest = 0 if degree == 3 else 1
    found: list[Polynomial] = []
    for degrees in combinations_with_replacement(range(lowest, l_max + 1), degree):
        if sum(degrees) % 2 == 0:
            found.extend(_of_degrees(degrees))
    return tuple(found)


def _of_degrees(degrees: tuple[int, ...]) -> Iterator[Polynomial]:
    """Orthonormal invariants with the given degrees l."""
    monomials = list(filter(_has_no_moment, _monomials(degrees)))
    sizes = np.array([_norm(m) for m in monomials])
    generators = np.concatenate([_action(generator, monomials) for generator in _generators(max(degrees))])
    for vector in _canonical(_null_space(generators)):
        kept = np.flatnonzero(np.abs(vector) > NOTHING)
        coefficients = tuple((vector * sizes)[kept].tolist())
        yield Polynomial(tuple(monomials[k] for k in kept), coefficients)


def _monomials(degrees: tuple[int, ...]) -> Iterator[Monomial]:
    """Products of one A_lm for each l, regardless of order."""
    parts: list[Monomial] = [()]
    for l, count in sorted(Counter(degrees).items()):
        own = list(combinations_with_replacement(range(l * l, (l + 1) ** 2), count))
        parts = [(*part, *more) for part in parts for more in own]
    yield from parts


def _has_no_moment(monomial: Monomial) -> bool:
    """Whether +-m of the factors can add up to zero: in other products nothing is invariant under rotations about z."""
    sums = {0}
    for x in monomial:
        l = isqrt(x)
        m = abs(x - l * l - l)
        sums = {s + sign * m for s in sums for sign in (-1, 1)}
    return 0 in sums


def _norm(monomial: Monomial) -> float:
    """Factor with which monomials are a basis in which rotations are orthogonal."""
    return np.sqrt(factorial(len(monomial)) / prod(map(factorial, Counter(monomial).values())))


def _generators(l_max: int) -> list[np.ndarray]:
    """Infinitesimal rotations about z and x, dA = G A, (n_lm, n_lm) in real harmonics; the rotation about y follows."""
    n_lm = (l_max + 1) ** 2
    about = np.zeros((2, n_lm, n_lm))
    for l in range(l_max + 1):
        m = np.arange(-l, l + 1)
        up = np.diag(np.sqrt(l * (l + 1) - m[:-1] * (m[:-1] + 1)), -1)  # L+ Y_m = .. Y_m+1
        to_real = _real_harmonics(l)
        shell = slice(l * l, (l + 1) ** 2)
        for k, moment in enumerate((np.diag(m).astype(float), 0.5 * (up + up.T))):
            about[k, shell, shell] = (1j * to_real @ moment.T @ to_real.conj().T).real
    return list(about)


def _real_harmonics(l: int) -> np.ndarray:
    """Real harmonics (rows) in terms of complex ones: sqrt(2) (-1)^m Re/Im Y_l|m| for m > 0 / m < 0."""
    u = np.zeros((2 * l + 1, 2 * l + 1), complex)
    u[l, l] = 1
    for m in range(1, l + 1):
        sign = (-1) ** m / np.sqrt(2)
        u[l + m, l + m], u[l + m, l - m] = sign, sign * (-1) ** m
        u[l - m, l + m], u[l - m, l - m] = -1j * sign, 1j * sign * (-1) ** m
    return u


def _action(generator: np.ndarray, monomials: list[Monomial]) -> np.ndarray:
    """Action of a generator on monomials times their norms: column k is the change of monomial k, rows are all that occur."""
    index: dict[Monomial, int] = {}
    changes: Counter[tuple[int, int]] = Counter()
    for k, monomial in enumerate(monomials):
        for place, x in enumerate(monomial):
            rest = monomial[:place] + monomial[place + 1 :]
            for y in np.flatnonzero(generator[x]).tolist():
                row = index.setdefault(tuple(sorted((*rest, y))), len(index))
                changes[row, k] += generator[x, y]
    action = np.zeros((len(index), len(monomials)))
    for (row, k), change in changes.items():
        action[row, k] = change
    return action * [_norm(m) for m in monomials] / np.array([_norm(m) for m in index]).reshape(-1, 1)


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span the null space of a matrix."""
    sizes, vectors = np.linalg.eigh(matrix.T @ matrix)
    return vectors[:, sizes < NOTHING].T


def _canonical(rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows with the same span that depend only on the span, so that models do not depend on the linear algebra library.

    The reduced echelon form of a span is unique, and so is its Gram-Schmidt basis.
    """
    rows = rows.copy()
    pivot = 0
    for column in range(rows.shape[1]):
        if pivot == len(rows):
            break
        best = pivot + int(np.argmax(np.abs(rows[pivot:, column])))
        if abs(rows[best, column]) < NOTHING:
            continue
        rows[[pivot, best]] = rows[[best, pivot]]
        rows[pivot] /= rows[pivot, column]
        others = np.arange(len(rows)) != pivot
        rows[others] -= np.outer(rows[others, column], rows[pivot])
        pivot += 1
    basis = np.linalg.qr(rows.T)[0].T if len(rows) else rows
    return basis * np.sign(np.einsum("tk,tk->t", basis, rows))[:, None]
