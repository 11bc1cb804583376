"""Compiled many-body term: fewer features and fewer points, with the same energies to a given tolerance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .._ext.core import TILE, Density, Points
from ..descriptors.density import SoapDescriptor
from ..descriptors.reduction import CompactFeatures, all_but_least, compact_features, largest_first, reduced
from .core_parts import CompiledParts
from .core_terms import kept, triangle_tables
from .soap_cut import Cut, Judge, cut_points

SAMPLE = 256
"""Number of sparse points at which the contribution of each feature to the energy is measured."""
SAFETY = 10.0
"""Factor by which a feature of an environment may exceed its largest value in any sparse point."""
FORCE_ERROR = 1e-4
"""Largest force error due to single precision, eV/A."""
RATE = 5.0
"""Rate of change of a feature with a distance, relative to its largest value, 1/A."""

cached_compact = lru_cache(maxsize=32)(compact_features)


@dataclass(frozen=True)
class CompiledSpecies:
    """Compiled tables for the centres of one element.

    Parameters
    ----------
    number : int
        Atomic number.
    columns : slice
        Columns of its known points among all known points of the term.
    core : Density
        Tables that compute the kept features.
    energy, known : Points
        Points for the energy, and points for covariances (if the latter are among the former, they come first).
    known_features : (n_known, n_kept) array
        Features of the known points.
    compact : CompactFeatures
        The complete set of features, to which `kept` refers.
    kept : (n_kept,) int array
        Indices of the kept features, without the constant.
    """

    number: int
    columns: slice
    core: Density
    energy: Points
    known: Points
    known_features: np.ndarray
    compact: CompactFeatures
    kept: np.ndarray

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """Tables for the core without uncertainty."""
        return kept(
            {"number": np.array([self.number])} | self.core.tables() | self.energy.tables() | self.known.known_tables(self.energy)
        )

    def triangle_tables(self, triangles: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """See `core_terms.triangle_tables`."""
        return triangle_tables(self.known.n, triangles)


@dataclass(frozen=True)
class CompiledSoapTerm(CompiledParts):
    """A `SoapTerm` with fixed weights for simulations; created by `compile_soap`.

    Parameters
    ----------
    descriptor : SoapDescriptor
    parts : tuple of CompiledSpecies
        Tables of each element with sparse points.
    prior_variances : tuple of float
        Prior variances of the local energies of every element of the descriptor, eV^2.
    instances : (callable, float) or None
        Function for the blocks of K_mm, and the square of the regularisation, eV^2, if instance variances are computed.
    """

    descriptor: SoapDescriptor
    parts: tuple[CompiledSpecies, ...]
    prior_variances: tuple[float, ...]
    instances: tuple[Callable[[], list[np.ndarray]], float] | None = None

    def head(self) -> dict[str, np.ndarray]:
        """See `CompiledParts`; sections as `mlpot_read_soap` of the core reads them."""
        return {"type": np.array([0]), "species": np.array(self.descriptor.species)}


def compile_soap(
    descriptor: SoapDescriptor,
    sparse_features: tuple[np.ndarray, ...],
    weights: np.ndarray,
    energy_scales: tuple[float, ...],
    zeta: float,
    tolerance: float,
    single: bool,
    known: Sequence[np.ndarray],
    cut: Cut | None = None,
) -> CompiledSoapTerm:
    """Compile a term; see `SoapTerm.compile`."""
    compact = cached_compact(descriptor)
    parts, begin, n_before = [], 0, 0
    for number, features, scale, first in zip(descriptor.species, sparse_features, energy_scales, known, strict=True):
        order = np.concatenate([first, np.setdiff1d(np.arange(len(features)), first)]).astype(int)
        if len(features):
            parts.append(
                _compile_species(
                    compact,
                    number,
                    slice(n_before, n_before + len(first)),
                    features[order],
                    weights[begin + order],
                    scale,
                    zeta,
                    tolerance,
                    single,
                    cut,
                )
            )
        begin += len(features)
        n_before += len(first)
    variances = tuple(scale**2 * (1.0 + descriptor.constant**2) ** zeta for scale in energy_scales)
    return CompiledSoapTerm(descriptor, tuple(parts), variances)


def _compile_species(
    compact: CompactFeatures,
    number: int,
    columns: slice,
    sparse_features: np.ndarray,
    weights: np.ndarray,
    energy_scale: float,
    zeta: float,
    tolerance: float,
    single: bool,
    cut: Cut | None,
) -> CompiledSpecies:
    constant = compact.descriptor.constant
    turned = compact.rotate(sparse_features)
    # with several elements, the sparse points may lack pairs of elements that meet in simulations
    largest = compact.largest if compact.is_open else np.zeros(turned.shape[1])
    kept, sizes = _features_that_matter(turned, largest, constant, weights, energy_scale, zeta, 0.5 * tolerance)
    kept = largest_first(compact.descriptor, kept, sizes)
    features = reduced(compact, turned, kept)
    points, strengths = _fewer_points(features, weights, energy_scale, zeta, 0.5 * tolerance)
    core = compact.core(kept)
    if cut is not None and zeta == 2:
        points, strengths = cut_points(points, strengths, energy_scale, Judge.on(core, compact.descriptor, cut, number))
    n_double = _features_in_double(points, strengths, energy_scale, zeta) if single else -1
    energy = Points(points, strengths, energy_scale, zeta, n_double)
    n_known = columns.stop - columns.start
    shared = points is features and not single
    known = energy.first(n_known) if shared else Points(features[:n_known], None, energy_scale, zeta)
    return CompiledSpecies(number, columns, core, energy, known, features[:n_known], compact, kept)


def _features_that_matter(
    features: np.ndarray,
    largest: np.ndarray,
    constant: float,
    weights: np.ndarray,
    energy_scale: float,
    zeta: float,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of features needed for energies to `tolerance` (eV per atom), and the sizes of all features.

    A feature f contributes p_f dE/dp_f to the energy and p_f^2 / 2 to the norm of p; both are bounded by `SAFETY` times the largest
    value over the sparse points, or by `largest` if that is larger. The smallest features are omitted while the sum of their bounds
    is below the tolerance.
    """
    sample = features[:: -(-len(features) // SAMPLE)]
    overlaps = sample @ features.T + constant**2
    powers = energy_scale**2 * np.maximum(overlaps, 0.0) ** (zeta - 1) * weights
    slopes = np.abs(zeta * powers @ features).max(axis=0)
    energy = np.abs((powers * overlaps).sum(axis=1)).max()
    largest = np.maximum(largest, SAFETY * np.abs(features).max(axis=0))
    bounds = largest * slopes + 0.5 * zeta * energy * largest**2
    return all_but_least(bounds, tolerance), largest


def _features_in_double(features: np.ndarray, weights: np.ndarray, energy_scale: float, zeta: float) -> int:
    """Number of features, largest first, that need double precision for a force error below `FORCE_ERROR`.

    Large weights cancel, so the error is measured: dE/dp at a sample of the sparse points, with the remaining features multiplied in
    single precision.
    """
    sample = features[:: -(-len(features) // SAMPLE)]
    scale = energy_scale**2 * zeta * weights

    def slopes(overlaps: np.ndarray) -> np.ndarray:
        return scale * np.maximum(overlaps, 0.0) ** (zeta - 1)

    rates = RATE * np.abs(features).max(axis=0)
    exact = slopes(sample @ features.T) @ features
    for n_double in range(0, features.shape[1], TILE):
        rest, all_rest = (part[:, n_double:].astype(np.float32) for part in (sample, features))
        rounded = slopes(sample[:, :n_double] @ features[:, :n_double].T + rest @ all_rest.T)
        gradient = np.hstack([rounded @ features[:, :n_double], rounded.astype(np.float32) @ all_rest])
        if np.linalg.norm((gradient - exact) * rates, axis=1).max() < FORCE_ERROR:
            return n_double
    return features.shape[1]


def _fewer_points(
    features: np.ndarray, weights: np.ndarray, energy_scale: float, zeta: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights that give the same energies at the lowest cost, which is proportional to the number of points.

    For zeta = 1 the sum over sparse points is linear in the features and needs a single point; for zeta = 2 it is a quadratic form
    and its eigenvectors suffice.
    """
    if zeta == 1:
        return (weights @ features)[None], np.ones(1)
    if zeta != 2 or 2 * len(features) <= features.shape[1]:  # a costly diagonalisation would save few points
        return features, weights
    values, vectors = np.linalg.eigh((features.T * weights) @ features)
    order = np.argsort(np.abs(values))
    longest = float(np.max(np.einsum("sf,sf->s", features, features)))
    kept = order[np.cumsum(np.abs(values[order])) * energy_scale**2 * longest >= tolerance]
    if len(kept) >= len(features):
        return features, weights
    return np.ascontiguousarray(vectors[:, kept].T), values[kept]
