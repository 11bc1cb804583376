"""Many-body term evaluated directly from its formulas, for any features and kernel: slow reference for the compiled terms.

    E_i = sum_s w_s d^2 k(p_i . p_s)        over sparse points of the centre's element, whose energy scale is d

Forces are computed by backpropagation through the features: one `vjp` per set of weights, one Jacobian for the rows of a fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.linalg import solve_triangular

from ..descriptors.density import species_indices
from ..neighbours import Pairs, find_pairs
from .defaults import TermDefaults
from .headers import ROUNDING
from .kernels import Kernel, expanded
from .linear_algebra import prior_factor
from .protocol import Features
from .selection import ExplainedVariance, extend_by_variance

LEAST_STRANGE = 0.02
"""Lower bound of the unexplained fraction of the prior variance at lone atoms and pairs, even if the data contain them."""
AT_ONCE = 64
"""Number of sparse points for which pair gradients are in memory at a time."""


class EnvironmentTerm(TermDefaults):
    """Base class of many-body terms: frozen dataclasses with `energy_scales` and `sparse_features`, one entry per element."""

    is_many_body: ClassVar[bool] = True
    energy_scales: tuple[float, ...]
    sparse_features: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy_scales", expanded(self.energy_scales, len(self.features.species)))

    @property
    def features(self) -> Features:
        """Features compared by the kernel."""
        raise NotImplementedError

    @property
    def kernel(self) -> Kernel:
        """Kernel, as a function of overlaps of features."""
        raise NotImplementedError

    @property
    def species(self) -> tuple[int, ...]:
        """See `Term`."""
        return self.features.species

    @property
    def cutoff(self) -> float:
        """See `Term`."""
        return self.features.cutoff

    @property
    def n_sparse(self) -> int:
        """See `Term`."""
        return sum(len(features) for features in self.sparse_features)

    def columns_of(self, number: int) -> np.ndarray:
        """See `Term`."""
        ends = np.cumsum([0, *map(len, self.sparse_features)])
        mine = self.species.index(number)
        return np.arange(ends[mine], ends[mine + 1])

    def _blocks(self, pairs: Pairs) -> Iterator[tuple[slice, np.ndarray, np.ndarray, float]]:
        """Yield (columns, centres, sparse features, energy scale) for every element with both atoms and sparse points."""
        begin = 0
        for z, features, scale in zip(self.species, self.sparse_features, self.energy_scales, strict=True):
            columns = slice(begin, begin + len(features))
            begin += len(features)
            centres = centres_of(pairs, z)
            if len(features) and len(centres):
                yield columns, centres, features, scale

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Features (n_sparse, n_features) of the sparse points of each element: elements are independent of each other."""
        return self.sparse_features

    @property
    def point_bounds(self) -> tuple[float, float]:
        """See `FittedTerm`: features have norm 1."""
        return -1 - ROUNDING, 1 + ROUNDING

    def with_points(self, points: tuple[np.ndarray, ...]) -> Any:
        """See `FittedTerm`."""
        changed: Any = self
        return replace(changed, sparse_features=points)

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FittedTerm`."""
        return self.kernel.value(first @ second.T)

    def prior(self) -> list[np.ndarray]:
        """See `Term`."""
        blocks = zip(self.energy_scales, self.sparse_features, strict=True)
        return [scale**2 * self.between(features, features) for scale, features in blocks if len(features)]

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """See `FittedTerm`."""
        return self.covariances_of(pairs, self.features.compute(pairs))

    def covariances_of(self, pairs: Pairs, own: np.ndarray) -> np.ndarray:
        """Covariances (n_atoms, M), eV^2, from the features (n_atoms, n_features) of a structure."""
        out = np.zeros((pairs.n_atoms, self.n_sparse))
        for columns, centres, features, scale in self._blocks(pairs):
            out[centres, columns] = scale**2 * self.kernel.value(own[centres] @ features.T)
        return out

    def variances(self, pairs: Pairs) -> np.ndarray:
        """See `FittedTerm`."""
        own = species_indices(pairs.numbers, self.species)
        return np.square(self.energy_scales)[own] * self.kernel.value(self.features.square)

    def prior_variance(self, number: int) -> float:
        """See `ManyBodyTerm`."""
        return self.scale_of(number) ** 2 * float(self.kernel.value(self.features.square))

    def scale_of(self, number: int) -> float:
        """See `FittedTerm`."""
        return self.energy_scales[self.species.index(number)]

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """See `Term`; instances are atoms. The square of `regularisation` (eV) is added to K_mm and to the prior variance, as in
        QUIP's local_gap_variance."""
        out = np.zeros(pairs.n_atoms)
        for _, centres, features, scale in self._blocks(pairs):
            block = scale**2 * self.between(features, features)
            rows = scale**2 * self.between(features, self.features.compute(pairs, centres))
            known = solve_triangular(prior_factor(block, regularisation**2), rows, lower=True)
            out[centres] = self.variances(pairs)[centres] + regularisation**2 - np.einsum("sa,sa->a", known, known)
        return out

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """See `Term`."""
        values, cotangent = self.energies_of(pairs, self.features.compute(pairs), weights)
        energies += values
        pair_gradients += self.features.vjp(pairs, cotangent)

    def energies_of(self, pairs: Pairs, own: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local energies (n_atoms,), eV, and their derivatives with respect to the features (n_atoms, n_features)."""
        energies, cotangent = np.zeros(pairs.n_atoms), np.zeros_like(own)
        for columns, centres, features, scale in self._blocks(pairs):
            overlaps = own[centres] @ features.T
            strengths = scale**2 * weights[columns]
            energies[centres] = self.kernel.value(overlaps) @ strengths
            cotangent[centres] = (self.kernel.slope(overlaps) * strengths) @ features
        return energies, cotangent

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """See `FittedTerm`."""
        own = self.features.compute(pairs)
        wanted = [(rows, pull) for rows, pull in ((forces, pairs.forces), (virial, pairs.virial)) if rows is not None]
        jacobian = self.features.jacobian(pairs) if wanted else np.empty(0)
        for columns, centres, features, scale in self._blocks(pairs):
            overlaps = own[centres] @ features.T
            energy[columns] += scale**2 * self.kernel.value(overlaps).sum(axis=0)
            if not wanted:
                continue
            slopes = np.zeros((pairs.n_atoms, len(features)))
            slopes[centres] = scale**2 * self.kernel.slope(overlaps)
            for begin in range(0, len(features), AT_ONCE):
                part = slice(begin, begin + AT_ONCE)
                gradients = slopes[pairs.i][:, None, part] * (jacobian @ features[part].T)
                places = slice(columns.start + begin, columns.start + begin + gradients.shape[2])
                for rows, pull in wanted:
                    rows[:, places] += pull(gradients).reshape(-1, gradients.shape[2])

    def representatives(self, most: int, distinct: float) -> tuple[np.ndarray, ...]:
        """See `FittedTerm`: greedy choice of the point with the largest variance unexplained by the previous ones."""
        return tuple(
            np.arange(len(points))
            if len(points) <= most
            else extend_by_variance(points[:0], points, most, self.kernel, distinct)
            for points in self.points
        )

    def unexplained_by(self, kept: Sequence[np.ndarray]) -> list[float]:
        """See `ManyBodyTerm`."""
        blocks = zip(self.points, kept, self.energy_scales, strict=True)
        return [
            float(ExplainedVariance.by(points[own], self.kernel).unexplained(points).max()) * scale**2
            if len(own) < len(points)
            else 0.0
            for points, own, scale in blocks
        ]

    def strangest(self, number: int) -> float:
        """See `FittedTerm`."""
        alone = [Atoms([number])]
        alone += [
            Atoms([number, z], positions=[[0, 0, 0], [0, 0, covalent_radii[number] + covalent_radii[z]]])
            for z, own in zip(self.species, self.points, strict=True)
            if len(own)
        ]
        features = [self.features.compute(find_pairs(a, self.cutoff), np.array([0])) for a in alone]
        explained = ExplainedVariance.by(self.points[self.species.index(number)], self.kernel)
        return float(np.clip(explained.unexplained(np.concatenate(features)).max(), LEAST_STRANGE, 1.0))


def centres_of(pairs: Pairs, number: int) -> np.ndarray:
    """Indices (n,) of the atoms of one element."""
    return np.flatnonzero(pairs.numbers == number).astype(np.int32)
