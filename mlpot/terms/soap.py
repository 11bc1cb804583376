"""Many-body term of a model: a dot-product kernel on the features of a density descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from .._ext.core import KernelModel, PairView, Points
from ..descriptors.density import SoapDescriptor, species_indices
from ..neighbours import Pairs
from ..threads import n_threads
from .kernels import dot_product_kernel, expanded
from .linear_algebra import prior_factor
from .soap_compiled import CompiledSoapTerm, centres_of, compile_soap
from .soap_rows import SpeciesRows, make_soap_rows


@dataclass(frozen=True)
class SoapTerm:
    """sum_s w_s s^2 (p_i . p_s)^zeta over sparse points of the centre's element, whose energy scale is s.

    Parameters
    ----------
    descriptor : SoapDescriptor
    zeta : float
        Kernel exponent.
    energy_scales : tuple of float
        Prior standard deviation of the local energy of every element, eV; one number stands for all.
    sparse_features : tuple of (n_sparse, n_features) arrays
        One per element of `descriptor.species`, possibly empty.
    """

    descriptor: SoapDescriptor
    zeta: float
    energy_scales: tuple[float, ...]
    sparse_features: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy_scales", expanded(self.energy_scales, len(self.descriptor.species)))

    @property
    def cutoff(self) -> float:
        return self.descriptor.cutoff

    @property
    def n_sparse(self) -> int:
        return sum(len(features) for features in self.sparse_features)

    def columns_of(self, number: int) -> np.ndarray:
        """Sparse points (n,) that atoms of an element have to do with."""
        ends = np.cumsum([0, *map(len, self.sparse_features)])
        mine = self.descriptor.species.index(number)
        return np.arange(ends[mine], ends[mine + 1])

    def _blocks(self, pairs: Pairs):
        """(columns, centres, sparse features, energy scale) of every element that has both atoms and sparse points."""
        begin = 0
        for z, features, scale in zip(self.descriptor.species, self.sparse_features, self.energy_scales, strict=True):
            columns = slice(begin, begin + len(features))
            begin += len(features)
            centres = centres_of(pairs, z)
            if len(features) and len(centres):
                yield columns, centres, features, scale

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Features (n_sparse, n_features) of the sparse points of each element: elements are independent of each other."""
        return self.sparse_features

    def with_points(self, points: tuple[np.ndarray, ...]) -> SoapTerm:
        """The same term with other sparse points."""
        return replace(self, sparse_features=points)

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of sparse points of one element for an energy scale of 1 eV, eV^2."""
        return dot_product_kernel(first, second, 1.0, self.zeta)

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""
        blocks = zip(self.energy_scales, self.sparse_features, strict=True)
        return [scale**2 * self.between(features, features) for scale, features in blocks if len(features)]

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """Add covariances of the energy (M,), forces (3 n_atoms, M) and virial (9, M) with the sparse points."""
        view = self.descriptor.view(pairs)
        for own in self._rows:
            own.core.design_rows(
                view, centres_of(pairs, own.number), own.points, energy[own.columns],
                None if forces is None else forces[:, own.columns], None if virial is None else virial[:, own.columns],
            )  # fmt: skip

    @cached_property
    def _rows(self) -> tuple[SpeciesRows, ...]:
        return make_soap_rows(self.descriptor, self.sparse_features, self.energy_scales, self.zeta)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_rows"}

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n_atoms, M) of the local energies with the sparse points, eV^2."""
        out = np.zeros((pairs.n_atoms, self.n_sparse))
        for columns, centres, features, scale in self._blocks(pairs):
            own = self.descriptor.compute(pairs, centres)
            out[centres, columns] = dot_product_kernel(own, features, scale, self.zeta)
        return out

    def variances(self, pairs: Pairs) -> np.ndarray:
        """Prior variances (n_atoms,) of the local energies, eV^2."""
        norm = 1.0 + self.descriptor.constant**2
        own = species_indices(pairs.numbers, self.descriptor.species)
        return np.square(self.energy_scales)[own] * norm**self.zeta

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Variances (n_atoms,) of the local energies that the sparse points leave, eV^2; the square of `regularisation`
        (eV) is added to K_mm and to the prior: QUIP's local_gap_variance."""
        out = np.zeros(pairs.n_atoms)
        for _, centres, features, scale in self._blocks(pairs):
            block = dot_product_kernel(features, features, scale, self.zeta)
            rows = dot_product_kernel(features, self.descriptor.compute(pairs, centres), scale, self.zeta)
            known = solve_triangular(prior_factor(block, regularisation**2), rows, lower=True)
            out[centres] = self.variances(pairs)[centres] + regularisation**2 - np.einsum("sa,sa->a", known, known)
        return out

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3)."""
        view: PairView = self.descriptor.view(pairs)
        for columns, centres, features, scale in self._blocks(pairs):
            points = Points(features, weights[columns], scale, self.zeta)
            model = KernelModel(points, points)
            self.descriptor.core.local_energies(view, centres, model, energies, pair_gradients, n_threads())

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledSoapTerm:
        """The term for simulations: as `predict` to `tolerance` (eV per atom), or in single precision.

        Instances are atoms: with a regularisation or without, variances are those of the prior. `known` are the sparse
        points of each element with which covariances will be wanted, by default all.
        """
        known = [np.arange(len(features)) for features in self.sparse_features] if known is None else known
        return compile_soap(
            self.descriptor, self.sparse_features, weights, self.energy_scales, self.zeta, tolerance, single, known
        )
