"""Compiled many-body term on a descriptor that the core computes: maps of sums, points, and weights of the ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from .._ext.core import TILE, Points, packed_rows
from ..descriptors.mapped_sums import MappedSums
from .core_parts import CompiledParts
from .core_terms import kept, triangle_tables
from .kernels import Kernel
from .protocol import Residual
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
class CompiledMappedTerm(CompiledParts):
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

    def head(self) -> dict[str, np.ndarray]:
        """See `CompiledParts`; sections as `mlpot_read_features` of the core reads them."""
        return {"type": np.array([TYPE]), "species": np.array(self.species), **self.shared}


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
