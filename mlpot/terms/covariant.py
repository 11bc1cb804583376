"""A term of a target: a covariant kernel between environments, its features, and its predictions with derivatives.

    k(i m, j m') = (p_i . p_j)^(zeta - 1) sum_f q_i[m, f] q_j[m', f] / (|p_i| |p_j| size^2)^(zeta / 2),

the covariant product times a power of the invariant one, divided by half of the powers of the norm that would normalise it, so that
atoms close to each other do not outweigh all others; `size` is the mean norm. The own density of a centre keeps the norm above
zero. Grisafi, Wilkins, Csanyi, Ceriotti, Phys. Rev. Lett. 120, 036002 (2018),
doi:10.1103/PhysRevLett.120.036002. With order 0, q = p, it is the polynomial kernel of scalars.

On the leading directions of p and q in the data the kernel is a product of finite features, x[m, (f, u)] = q[m, f] u(p) with the
monomials u of degree zeta - 1, divided likewise. They add up over the atoms of a structure, so a Gaussian process of structures needs
neither sparse points nor sums over pairs of environments, and its predictions one matrix for every element.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement
from math import comb, factorial, prod, sqrt

import numpy as np

from ..descriptors.covariants import Covariants, Environments
from ..descriptors.density import SoapDescriptor
from ..neighbours import Pairs
from .environments import centres_of

MOST_MONOMIALS = 64
"""Most monomials of the invariants in a kernel with zeta >= 3, which limits its leading directions."""


def most_directions(n_invariants: int, zeta: int) -> int:
    """Number of directions of the invariants, at most `n_invariants`, that a kernel uses.

    Examples
    --------
    >>> [most_directions(32, zeta) for zeta in (1, 2, 3, 4)]
    [32, 32, 10, 5]
    """
    while zeta > 2 and n_invariants > 1 and comb(n_invariants + zeta - 2, zeta - 1) > MOST_MONOMIALS:
        n_invariants -= 1
    return n_invariants


@dataclass(frozen=True)
class Monomials:
    """Monomials u of some degree with u(p) . u(p') = (p . p')^degree.

    Parameters
    ----------
    n : int
        Variables.
    degree : int
    """

    n: int
    degree: int

    @cached_property
    def _factors(self) -> np.ndarray:
        """Variables (n_monomials, degree) of every monomial."""
        found = list(combinations_with_replacement(range(self.n), self.degree))
        return np.array(found, int).reshape(len(found), self.degree)

    @cached_property
    def _weights(self) -> np.ndarray:
        counts = (np.bincount(own, minlength=self.n) for own in self._factors)
        return np.array([sqrt(factorial(self.degree) / prod(map(factorial, own.tolist()))) for own in counts])

    def __len__(self) -> int:
        return len(self._factors)

    def values(self, p: np.ndarray) -> np.ndarray:
        """Monomials (n_points, n_monomials) of points (n_points, n)."""
        return self._weights * np.prod(p[:, self._factors], axis=2)

    def pullback(self, p: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Derivatives (n_points, n_out, n) of the sums of monomials times `cotangent` (n_points, n_out, n_monomials)."""
        out = np.zeros((*cotangent.shape[:2], self.n))
        for k in range(self.degree):
            others = np.prod(p[:, np.delete(self._factors, k, axis=1)], axis=2) * self._weights
            out += (cotangent * others[:, None]) @ np.eye(self.n)[self._factors[:, k]]
        return out


@dataclass(frozen=True)
class Directions:
    """Leading directions of the environments of one element.

    Parameters
    ----------
    p : (n_invariants, n_p) array
        Orthonormal columns.
    q : (n_covariants, n_q) array
        Orthonormal columns.
    size : float
        Root mean square norm of the invariants.
    """

    p: np.ndarray
    q: np.ndarray
    size: float

    def divisors(self, p: np.ndarray) -> np.ndarray:
        """Square roots (n, 1) of the norms of invariants times `size`: invariants and covariants are divided by them."""
        return np.sqrt(np.linalg.norm(p, axis=1, keepdims=True) * self.size)


@dataclass(frozen=True)
class Surroundings:
    """Environments of one structure, every density expanded once for all terms that use it; `pairs` reach the largest cutoff."""

    pairs: Pairs
    _made: dict[tuple[int, int], Environments] = field(default_factory=dict)

    def environments(self, invariants: Covariants, covariants: Covariants, number: int) -> Environments:
        """Environments of the atoms of an element."""
        key = id(invariants.descriptor), number
        if key not in self._made:
            self._made[key] = Environments(invariants, covariants, self.pairs, centres_of(self.pairs, number))
        first = self._made[key]
        if first.covariants is covariants:
            return first
        return Environments(invariants, covariants, self.pairs, first.centres, first)


@dataclass(frozen=True)
class CovariantTerm:
    """Kernel of one density, on the leading directions of its environments.

    Parameters
    ----------
    descriptor : SoapDescriptor
    order : int
        Degree lambda: 0, 1 or 2.
    zeta : int
        Exponent of the kernel.
    directions : tuple of Directions
        For every element of the descriptor.
    """

    descriptor: SoapDescriptor
    order: int
    zeta: int
    directions: tuple[Directions, ...] = ()

    @cached_property
    def invariants(self) -> Covariants:
        """Covariants of order 0."""
        return Covariants(self.descriptor, 0)

    @cached_property
    def covariants(self) -> Covariants:
        """Covariants of the order of the term."""
        return Covariants(self.descriptor, self.order) if self.order else self.invariants

    @property
    def n_orders(self) -> int:
        """Components of a value: 2 order + 1."""
        return 2 * self.order + 1

    @cached_property
    def monomials(self) -> tuple[Monomials, ...]:
        """Monomials in the invariants of every element."""
        return tuple(Monomials(own.p.shape[1], self.zeta - 1) for own in self.directions)

    @cached_property
    def sizes(self) -> list[int]:
        """Features of every element."""
        return [own.q.shape[1] * len(u) for own, u in zip(self.directions, self.monomials, strict=True)]

    def environments(self, around: Surroundings, number: int) -> Environments:
        """Environments of the atoms of an element."""
        return around.environments(self.invariants, self.covariants, number)

    def features(self, around: Surroundings, per_atom: bool) -> tuple[np.ndarray, np.ndarray]:
        """Features of a structure, summed over its atoms, and the variance outside of them.

        Returns
        -------
        features : (2 order + 1, n_features) array
            Element after element; with `per_atom` (n_atoms, 2 order + 1, n_features).
        outside : (2 order + 1, n_elements) array
            Prior variance for a scale of 1 that the kernel has beyond its leading directions; with `per_atom` likewise.
        """
        n = around.pairs.n_atoms if per_atom else 1
        out, outside = np.zeros((n, self.n_orders, sum(self.sizes))), np.zeros((n, self.n_orders, len(self.sizes)))
        start = 0
        for k, (number, own, size) in enumerate(zip(self.descriptor.species, self.directions, self.sizes, strict=True)):
            found = self.environments(around, number)
            if len(found.centres):
                divisors = own.divisors(found.p)
                q, u = (found.q / divisors[:, None]) @ own.q, self.monomials[k].values((found.p / divisors) @ own.p)
                part, left = slice(start, start + size), self._outside(found, divisors, q, u)
                if per_atom:
                    out[found.centres, :, part] = np.einsum("nmf,nu->nmfu", q, u).reshape(len(q), self.n_orders, size)
                    outside[found.centres, :, k] = left
                else:
                    out[0, :, part] = (q.reshape(len(q), -1).T @ u).reshape(self.n_orders, size)
                    outside[0, :, k] = left.sum(axis=0)
            start += size
        return (out, outside) if per_atom else (out[0], outside[0])

    def _outside(self, found: Environments, divisors: np.ndarray, q: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Variance (n, 2 order + 1) of the kernel minus the variance of its features."""
        whole = np.sum((found.p / divisors) ** 2, axis=1, keepdims=True) ** (self.zeta - 1)
        every = whole * np.einsum("nmf,nmf->nm", found.q, found.q) / divisors**2
        return np.maximum(every - np.einsum("nu,nu->n", u, u)[:, None] * np.einsum("nmf,nmf->nm", q, q), 0.0)

    def contracted(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """For every element what predictions need of weights (n_features,): a matrix (n_covariants, n_monomials)."""
        found, start = [], 0
        for own, size, u in zip(self.directions, self.sizes, self.monomials, strict=True):
            found.append(own.q @ weights[start : start + size].reshape(own.q.shape[1], len(u)))
            start += size
        return tuple(found)

    def predict(
        self, around: Surroundings, contracted: tuple[np.ndarray, ...], values: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        """Add local values (n_atoms, 2 order + 1) and the derivatives (2 order + 1, n_pairs, 3) of their sum, 1/A."""
        for k, (number, own, table) in enumerate(zip(self.descriptor.species, self.directions, contracted, strict=True)):
            found = self.environments(around, number)
            if not table.size or not len(found.centres):
                continue
            values[found.centres] += self._predict(found, own, self.monomials[k], table, gradients)

    def _predict(
        self, found: Environments, own: Directions, monomials: Monomials, table: np.ndarray, gradients: np.ndarray | None
    ) -> np.ndarray:
        """Local values (n, 2 order + 1) of the atoms of one element; their derivatives are added to `gradients`."""
        factors, p = own.divisors(found.p) ** -self.zeta, found.p @ own.p
        along = factors * (monomials.values(p) @ table.T)
        values = np.einsum("nmf,nf->nm", found.q, along)
        if gradients is not None:
            to_u = (found.q.reshape(-1, len(table)) @ table).reshape(len(p), self.n_orders, -1)
            to_p = monomials.pullback(p, factors[:, None] * to_u) @ own.p.T
            square = np.einsum("nf,nf->n", found.p, found.p)  # of the norm, of which the values have the power -zeta / 2
            to_p -= (0.5 * self.zeta * values / square[:, None])[:, :, None] * found.p[:, None]
            gradients += found.gradients(to_p if self.order else to_p + along[:, None], along if self.order else None)
        return values
