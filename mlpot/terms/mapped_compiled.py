"""Compiled many-body term on a descriptor that the core computes: maps of sums, points, and weights of the ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from .._ext.core import TILE, Points, packed_rows
from ..descriptors.mapped_sums import MappedSums
from ..errors import required
from .core_terms import instance_triangles, kept, triangle_tables
from .kernels import Kernel
from .protocol import Residual, Whole
from .unit_features import UnitFeatures

TYPE = 3
"""Kind of term in the core: FEATURE_TERM of cython_ext/core/model.h."""


def source_tables(sums: MappedSums) -> dict[str, np.ndarray]:
    """Tables of the sums of a term, which all its elements share."""
    found = {"n_sources": np.array([len(sums.sources)])}
    for k, source in enumerate(sums.sources):
        found |= {f"q{k}.{name}": array for name, array in source.tables().items()}
    return found


def map_tables(number: int, matrix: csr_array, shift: np.ndarray, offset: float) -> dict[str, np.ndarray]:
    """Tables of the map from sums to the features of the centres of one element."""
    return {
        "number": np.array([number]), "f.sizes": np.array([len(shift), matrix.nnz]), "f.offset": np.array([float(offset)]),
        "f.rows": matrix.indptr, "f.columns": matrix.indices, "f.coefficients": matrix.data, "f.shift": shift,
    }  # fmt: skip


def whole_tiles(array: np.ndarray) -> np.ndarray:
    """Rows padded with zeros to whole tiles."""
    return np.pad(array, [(0, -len(array) % TILE)] + [(0, 0)] * (array.ndim - 1))


@dataclass(frozen=True)
class MappedElement:
    """Compiled tables for the centres of one element.

    Parameters
    ----------
    number : int
        Atomic number.
    columns : slice
        Columns of its known points among all known points of the term.
    known_features : (n_known, n_features) array
        Features of the points for covariances.
    tables : tables
        For the core, without uncertainty.
    """

    number: int
    columns: slice
    known_features: np.ndarray
    tables: dict[str, np.ndarray]

    def triangle_tables(self, triangles: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Tables of lower triangles G over the points of other terms and the known points."""
        return triangle_tables(len(self.known_features), triangles)

    def member_tables(self, weights: np.ndarray, residual: Residual | None) -> dict[str, np.ndarray]:
        """Tables of an ensemble with weights (n_known, N_MEMBERS), 1/eV."""
        n_features = self.known_features.shape[1] + -self.known_features.shape[1] % TILE
        found = {
            "m.sizes": np.array([n_features, 0, 0, residual is not None, 0]), "m.reals": np.zeros(2),
            "m.packed": packed_rows(self.known_features), "m.weights": whole_tiles(weights),
        }  # fmt: skip
        if residual is not None:
            found |= {"m.reals": np.array([residual.prior, residual.expected]), "m.residual": whole_tiles(residual.slopes)}
        return kept(found)


@dataclass(frozen=True)
class CompiledMappedTerm:
    """A `FeatureTerm` with fixed weights, without approximations; created by `compile_mapped`.

    Parameters
    ----------
    species : tuple of int
    shared : tables
        For all elements: of the sums.
    parts : tuple of MappedElement
        Of each element with sparse points.
    prior_variances : tuple of float
        Prior variances of the local energies of every element, eV^2.
    instances : (callable, float) or None
        Function for the blocks of K_mm, and the square of the regularisation, eV^2, if instance variances are computed.
    """

    species: tuple[int, ...]
    shared: dict[str, np.ndarray]
    parts: tuple[MappedElement, ...]
    prior_variances: tuple[float, ...]
    instances: tuple[Callable[[], list[np.ndarray]], float] | None = None
    in_core: ClassVar[bool] = True

    def core_tables(self, more: Sequence[dict[str, np.ndarray]] = ()) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; sections as `mlpot_read_features` of the core reads them. `more` are additional tables of each part."""
        found = {
            "type": np.array([TYPE]), "species": np.array(self.species), "prior": np.array(self.prior_variances),
            "n_parts": np.array([len(self.parts)]), **self.shared,
        }  # fmt: skip
        for k, part in enumerate(self.parts):
            own = part.tables | more[k] if more else part.tables
            found |= {f"p{k}.{name}": array for name, array in own.items()}
        return found

    def instance_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`: with G'G = (K_ss + regularisation)^-1 for every element."""
        prior, variance = required(self.instances, "instances")
        triangles = instance_triangles(prior(), variance)
        return self.core_tables([part.triangle_tables([own]) for part, own in zip(self.parts, triangles, strict=True)])


@dataclass(frozen=True)
class MappedObserver:
    """Observer of a compiled term on maps of sums; see `Observer`.

    Parameters
    ----------
    term : CompiledMappedTerm
    tables : tuple of tables
        Tables of every part for its members; in the last term of a model also the triangles of all terms.
    """

    term: CompiledMappedTerm
    tables: tuple[dict[str, np.ndarray], ...]
    in_core: ClassVar[bool] = True

    @classmethod
    def of(cls, term: CompiledMappedTerm, members: np.ndarray, whole: Whole | None) -> MappedObserver:
        """Create from the members' weights (n_known, N_MEMBERS), 1/eV, of the known points of a term."""
        tables = []
        for part in term.parts:
            own = part.member_tables(members[part.columns], whole.residual(part.number) if whole else None)
            tables.append(own | part.triangle_tables(whole.triangles(part.number)) if whole else own)
        return cls(term, tuple(tables))

    @property
    def served(self) -> frozenset[int]:
        """See `Observer`."""
        return frozenset(part.number for part in self.term.parts)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `Observer`."""
        return self.term.core_tables(self.tables)


def compile_mapped(
    unit: UnitFeatures,
    sums: MappedSums,
    kernel: Kernel,
    energy_scales: tuple[float, ...],
    sparse_features: tuple[np.ndarray, ...],
    weights: np.ndarray,
    known: Sequence[np.ndarray],
    instances: tuple[Callable[[], list[np.ndarray]], float] | None,
) -> CompiledMappedTerm:
    """Compile a term on a descriptor whose features are maps of `sums`; see `FeatureTerm.compile`.

    Points with weights of zero, the references of an imported model, have no part in the energy.
    """
    parts, begin, n_before = [], 0, 0
    for kind, (features, scale, first) in enumerate(zip(sparse_features, energy_scales, known, strict=True)):
        order = np.concatenate([first, np.setdiff1d(np.arange(len(features)), first)]).astype(int)
        if len(features):
            own, strengths, columns = features[order], weights[begin + order], slice(n_before, n_before + len(first))
            matrix, shift = unit.map_of(sums, kind)
            tables = map_tables(unit.species[kind], matrix, shift, unit.offset) | _points(kernel, scale, own, strengths, len(first))
            parts.append(MappedElement(unit.species[kind], columns, own[: len(first)], kept(tables)))
        begin += len(features)
        n_before += len(first)
    variances = tuple(scale**2 * float(kernel.value(unit.square)) for scale in energy_scales)
    return CompiledMappedTerm(unit.species, kept(source_tables(sums)), tuple(parts), variances, instances)


def _points(kernel: Kernel, scale: float, features: np.ndarray, weights: np.ndarray, n_known: int) -> dict[str, np.ndarray]:
    """Tables of the points of one element, of which the first are known."""
    if np.any(weights):
        energy = Points(features, weights, scale, **kernel.core_parameters)
        return energy.tables() | energy.first(n_known).known_tables(energy)
    energy = Points(features[:0], weights[:0], scale, **kernel.core_parameters)
    return energy.tables() | Points(features[:n_known], None, scale, **kernel.core_parameters).known_tables(energy)
