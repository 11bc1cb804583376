"""A term of a target: a covariant kernel between environments, its rows, and its predictions with derivatives.

    k(i m, s m') = (p_i . p_s)^(zeta - 1) sum_f q_i[m, f] q_s[m', f],

the covariant product times a power of the invariant one: Grisafi, Wilkins, Csanyi, Ceriotti, Phys. Rev. Lett. 120, 036002 (2018),
doi:10.1103/PhysRevLett.120.036002. With order 0, q = p, it is the polynomial kernel of scalars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from ..descriptors.covariants import Covariants, Environments
from ..descriptors.density import SoapDescriptor
from ..neighbours import Pairs
from .environments import centres_of
from .linear_algebra import prior_factor


@dataclass(frozen=True)
class Points:
    """Sparse points of one element: invariants (n, n_invariants) and covariants (n, 2 order + 1, n_covariants), and the size by
    which both are divided."""

    p: np.ndarray
    q: np.ndarray
    size: float

    def __len__(self) -> int:
        return len(self.p)


@dataclass(frozen=True)
class CovariantTerm:
    """Kernel and sparse points of one density.

    Parameters
    ----------
    descriptor : SoapDescriptor
    order : int
        Degree lambda: 0, 1 or 2.
    zeta : int
        Exponent of the kernel.
    points : tuple of Points
        For every element of the descriptor.
    """

    descriptor: SoapDescriptor
    order: int
    zeta: int
    points: tuple[Points, ...] = ()

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

    @property
    def sizes(self) -> list[int]:
        """Columns of every block: components of the sparse points of every element."""
        return [len(points) * self.n_orders for points in self.points]

    def environments(self, pairs: Pairs, number: int, size: float) -> Environments:
        """Environments of the atoms of an element; `pairs` reach the cutoff or farther."""
        return Environments(self.invariants, self.covariants, pairs, centres_of(pairs, number), size)

    def _covariances(self, points: Points, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Covariances (n, 2 order + 1, n_points, 2 order + 1) of environments with points of the same element."""
        n, m = len(p), self.n_orders
        product = q.reshape(n * m, -1) @ points.q.reshape(len(points) * m, -1).T
        product = product.reshape(n, m, len(points), m)
        return product * ((p @ points.p.T) ** (self.zeta - 1))[:, None, :, None] if self.zeta > 1 else product

    def rows(self, pairs: Pairs, per_atom: bool) -> np.ndarray:
        """Covariances (2 order + 1, n_columns) of the sum over atoms with the points, or of every atom, (n_atoms, ..)."""
        out = np.zeros((pairs.n_atoms if per_atom else 1, self.n_orders, sum(self.sizes)))
        start = 0
        for number, points, size in zip(self.descriptor.species, self.points, self.sizes, strict=True):
            found = self.environments(pairs, number, points.size)
            if size and len(found.centres):
                own = self._covariances(points, found.p, found.q).reshape(-1, self.n_orders, size)
                if per_atom:
                    out[found.centres, :, start : start + size] = own
                else:
                    out[0, :, start : start + size] = own.sum(axis=0)
            start += size
        return out if per_atom else out[0]

    def between(self, points: Points) -> np.ndarray:
        """Covariances (n, n) among the columns of one element's points."""
        n = len(points) * self.n_orders
        return self._covariances(points, points.p, points.q).reshape(n, n)

    @cached_property
    def _scalar_factors(self) -> tuple[np.ndarray, ...]:
        """Cholesky factors of the kernels (p . p')^zeta among the points of every element."""
        found = []
        for points in self.points:
            kernel = (points.p @ points.p.T) ** self.zeta
            found.append(prior_factor(kernel, 1e-8 * float(np.trace(kernel)) / max(len(kernel), 1)))
        return tuple(found)

    def unexplained(self, pairs: Pairs, scales: np.ndarray) -> np.ndarray:
        """Prior variance (n_atoms, 2 order + 1) that the sparse points leave open: the share of the scalar kernel that they do not
        span; `scales` (n_elements,) are standard deviations of the prior."""
        out = np.zeros((pairs.n_atoms, self.n_orders))
        for k, (number, points) in enumerate(zip(self.descriptor.species, self.points, strict=True)):
            found = self.environments(pairs, number, points.size)
            if not len(found.centres) or not len(points):
                continue
            square = np.einsum("nf,nf->n", found.p, found.p)
            known = solve_triangular(self._scalar_factors[k], ((found.p @ points.p.T) ** self.zeta).T, lower=True)
            share = 1.0 - np.einsum("sn,sn->n", known, known) / np.maximum(square**self.zeta, 1e-300)
            prior = square ** (self.zeta - 1) * np.einsum("nmf,nmf->mn", found.q, found.q)
            out[found.centres] = (scales[k] ** 2 * np.clip(share, 0.0, 1.0) * prior).T
        return out

    def contracted(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """For every element what predictions need of weights (n_columns,): with zeta 1 a vector (n_covariants,), with zeta 2 a matrix
        (n_covariants, n_invariants), else a matrix (n_points, n_covariants)."""
        found, start = [], 0
        for points, size in zip(self.points, self.sizes, strict=True):
            own = weights[start : start + size].reshape(len(points), self.n_orders)
            shares = np.einsum("sm,smf->sf", own, points.q)
            found.append(shares.sum(axis=0) if self.zeta == 1 else shares.T @ points.p if self.zeta == 2 else shares)
            start += size
        return tuple(found)

    def predict(
        self, pairs: Pairs, contracted: tuple[np.ndarray, ...], values: np.ndarray, gradients: np.ndarray | None
    ) -> None:
        """Add local values (n_atoms, 2 order + 1) and the derivatives (2 order + 1, n_pairs, 3) of their sum, 1/A."""
        for number, points, table in zip(self.descriptor.species, self.points, contracted, strict=True):
            found = self.environments(pairs, number, points.size)
            if not len(points) or not len(found.centres):
                continue
            along, slopes = self._products(found, points, table)
            values[found.centres] += np.einsum("nmf,nf->nm", found.q, along)
            if gradients is not None:
                to_p = slopes() if self.order else slopes() + along[:, None]
                gradients += found.gradients(to_p, along if self.order else None)

    def _products(self, found: Environments, points: Points, table: np.ndarray):
        """Vector (n, n_covariants) whose products with q are the values, and a function that returns the derivatives
        (n, 2 order + 1, n_invariants) of the values with respect to p at fixed q."""
        shape = (*found.q.shape[:2], found.p.shape[1])
        if self.zeta == 1:
            return np.broadcast_to(table, (len(found.centres), len(table))), lambda: np.zeros(shape)
        if self.zeta == 2:
            return found.p @ table.T, lambda: (found.q.reshape(-1, len(table)) @ table).reshape(shape)
        overlap = found.p @ points.p.T

        def slopes() -> np.ndarray:
            own = (found.q.reshape(-1, table.shape[1]) @ table.T).reshape(*found.q.shape[:2], len(points))
            own *= ((self.zeta - 1) * overlap ** (self.zeta - 2))[:, None]
            return (own.reshape(-1, len(points)) @ points.p).reshape(shape)

        return overlap ** (self.zeta - 1) @ table, slopes
