"""Compiled two-body term: tabulated functions of the distance, summed over neighbours.

Energies come from a table of u(r) / 2. Covariances and prior variances come from features of the kernel, k(r, r') = phi(r) .
phi(r') s^2 a(r) a(r') with the energy scale s and the growth a of a pair of elements, summed over the neighbours of an atom: the
double sum over neighbours is the square of a single sum. If the tabulated features have an error e, the error of the posterior
standard deviation of u(r) is at most e s, because covariances and prior variances refer to the same, slightly displaced, point in
feature space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from .._ext.core import CHANNELS
from ..descriptors.radial_table import RadialTable, tabulate
from ..errors import ConfigError
from .core_terms import kept
from .pair_curves import CovarianceCurves, InstanceCurves, KernelFeatures, PotentialCurves
from .pair_kernel import PairKernel, bend_of, bent

FEATURE_TOLERANCE = {"gaussian": 1e-10, "matern": 1e-7}
"""Error of the tabulated features, relative to the largest feature, by kernel: far below what omitted features amount to."""
INSTANCE_TOLERANCE = 1e-6
"""Error of a bond's variance, relative to its lower bound far from the cutoff, the squared regularisation."""
MOST_COVARIANCES = 2**22
"""Largest number of entries of a table of covariances with the sparse radii themselves, 32 MB; features serve larger ones."""
BEYOND = 1.0
"""Margin by which the table of features extends beyond the coordinates, A."""
CROWD = 32
"""Number of neighbours whose errors may add up in the energy of an atom."""
EPSILON = float(np.finfo(float).eps)
LOWEST_EXPONENT = -1e300
"""Stands for minus infinity, which tables of the core cannot contain."""
KINK_NUDGE = 1e-12
"""Distance from the kink of the cutoff function, relative to the cutoff, at which `tabulate` evaluates either side."""


@dataclass(frozen=True, eq=False)
class CompiledPairTerm:
    """Tables of a two-body term; made by `PairTerm.compile`.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        A.
    energy_scales : tuple of float
        Energy scale of every pair of elements, eV, in the order of `species_pairs(species)`.
    n_sparse_of : tuple of int
        Number of sparse radii of every pair of elements, in the order of `species_pairs(species)`.
    potential : RadialTable
        u(r) / 2 in eV of every pair of elements with sparse radii.
    instances : RadialTable or None
        Variance of a bond, eV^2, of the same pairs; None: prior variances are computed instead.
    features : RadialTable
        phi_m(r) for an energy scale of 1; with contacts, phi_m(x) without f_c(r) a(r).
    sparse_features : (n_sparse, rank) array
        phi_m(r_s).
    cutoff_width : float
        A.
    contacts : tuple of float
    repulsion_length : float
        As in `PairTerm`.
    """

    species: tuple[int, ...]
    cutoff: float
    energy_scales: tuple[float, ...]
    n_sparse_of: tuple[int, ...]
    potential: RadialTable
    instances: RadialTable | None
    features: RadialTable
    sparse_features: np.ndarray
    cutoff_width: float
    contacts: tuple[float, ...] = ()
    repulsion_length: float = 0.0
    in_core: ClassVar[bool] = True

    @property
    def n_sparse(self) -> int:
        return sum(self.n_sparse_of)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; sections as `mlpot_read_pair` of the core reads them."""
        return self._tables

    def instance_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; same sections as `core_tables`."""
        return self._tables

    @cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        contact, feature_knots, maps = self._touching, *self._feature_tables
        grids, knots = [self.potential.grid, (0.0, 1.0, 0), self.features.grid], [self.potential, self.instances, self.features]
        if self.instances is not None:
            grids[1] = self.instances.grid
        counts = [number for table, grid in zip(knots, grids, strict=True) for number in (_n_knots(table), grid[2])]
        present = [n for n in self.n_sparse_of if n]
        found = {
            "type": np.array([1]),
            "species": np.array(self.species),
            "sizes": np.array([len(present), *counts, feature_knots.shape[2], contact is not None, self.n_sparse]),
            "reals": np.array([self.cutoff, self.cutoff_width, *(number for grid in grids for number in grid[:2])]),
            "kind": kinds_of(self.species, self.n_sparse_of),
            "potential": _curves(self.potential),
            "features": feature_knots,
            "variance": self._variances,
            "first": np.concatenate([[0], np.cumsum(present)]),
            "maps": maps,
        }
        if self.instances is not None:
            found["instance"] = _curves(self.instances)
        if contact is not None:
            found["contact"] = contact
        return kept(found)

    @property
    def _variances(self) -> np.ndarray:
        """Squared energy scale of every pair of elements with sparse radii, eV^2."""
        return np.array([s**2 for s, n in zip(self.energy_scales, self.n_sparse_of, strict=True) if n])

    @property
    def _feature_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Knots (n_knots, 3, rank) of phi(r) / 2, and maps (rank, n) from these to covariances of each pair of elements, in turn."""
        rank = -(-self.sparse_features.shape[1] // CHANNELS) * CHANNELS
        parts = np.split(self.sparse_features, np.cumsum([n for n in self.n_sparse_of if n])[:-1])
        maps = [
            _padded(variance * part.T, -(-len(part) // CHANNELS) * CHANNELS)
            for variance, part in zip(self._variances, parts, strict=True)
        ]
        maps = [np.concatenate([part, np.zeros((rank - len(part), part.shape[1]))]) for part in maps]
        return _padded(0.5 * self.features.knots[:, :, 0, :], rank), np.concatenate([part.ravel() for part in maps])

    @property
    def _touching(self) -> np.ndarray | None:
        """Parameters of x(r) and a(r) for the core, for every pair of elements with sparse radii."""
        if not self.contacts:
            return None
        length = self.repulsion_length
        return np.array(
            [
                (*bend_of(c), c / (2 * length), 1 / (2 * c * length)) if length else (*bend_of(c), LOWEST_EXPONENT, 0.0)
                for c, n in zip(self.contacts, self.n_sparse_of, strict=True) if n
            ]
        )  # fmt: skip

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_tables"}


def kinds_of(species: Sequence[int], n_sparse_of: Sequence[int]) -> np.ndarray:
    """Index of the table of each pair of elements (n_species, n_species); -1 without sparse radii."""
    n = len(species)
    filled = np.array(n_sparse_of) > 0
    kinds = np.full((n, n), -1, np.int32)
    kinds[np.triu_indices(n)] = np.where(filled, np.cumsum(filled) - 1, -1)
    return np.maximum(kinds, kinds.T)


def compile_pair_term(
    term: PairKernel, weights: np.ndarray, tolerance: float, regularisation: float | None
) -> CompiledPairTerm:
    """See `PairTerm.compile`."""
    ends = term.cutoff, term.cutoff_width
    if term.contacts:  # features of coordinates, for which f_c is 1 everywhere
        ends = max(float(bent(np.array([term.cutoff]), c)[0, 0]) for c in term.contacts) + BEYOND, BEYOND
    basis, table = _kernel_features(*ends, term.length_scale, term.kernel)
    at_radii = basis.evaluate(np.concatenate(term.sparse_radii))[0, :, :, 0]
    instances = None
    if regularisation is not None and term.n_sparse:
        instances = _tabulated_within(InstanceCurves(term, regularisation), INSTANCE_TOLERANCE * regularisation**2)
    return CompiledPairTerm(
        species=term.species,
        cutoff=term.cutoff,
        energy_scales=term.energy_scales,
        n_sparse_of=tuple(len(radii) for radii in term.sparse_radii),
        potential=_potential_table(PotentialCurves(term, np.asarray(weights, float)), tolerance),
        instances=instances,
        features=table,
        sparse_features=at_radii,
        cutoff_width=term.cutoff_width,
        contacts=term.contacts,
        repulsion_length=term.repulsion_length,
    )


def covariance_tables(term: PairKernel) -> dict[str, np.ndarray]:
    """Tables of the covariances with the sparse radii for the core, where no prior variance needs the features.

    A third to a half of the cost of features, of which there are more than radii; none if they would be too large.
    """
    names = ("species", "cutoff", "cutoff_width", "length_scale", "contacts", "repulsion_length", "kernel")
    known = tuple(radii.tobytes() for radii in term.sparse_radii)
    table = _unit_covariances(*(getattr(term, name) for name in names), known)
    knots = np.split(table.knots[:, :, 0, :], np.cumsum([len(radii) for radii in term.sparse_radii])[:-1], axis=2)
    parts = [
        scale**2 * _padded(part, -(-part.shape[2] // CHANNELS) * CHANNELS).ravel()
        for scale, part in zip(term.energy_scales, knots, strict=True)
    ]
    if sum(map(len, parts)) > MOST_COVARIANCES:
        return {}
    start, step, kink = table.grid
    return {
        "c.sizes": np.array([len(table.knots), kink]), "c.reals": np.array([start, step]), "covariances": np.concatenate(parts),
    }  # fmt: skip


@lru_cache(maxsize=8)
def _unit_covariances(
    species: tuple[int, ...],
    cutoff: float,
    cutoff_width: float,
    length_scale: float,
    contacts: tuple[float, ...],
    repulsion_length: float,
    kernel: str,
    radii: tuple[bytes, ...],
) -> RadialTable:
    """Table of `CovarianceCurves` for energy scales of 1, cached: refits change the scales."""
    known = tuple(np.frombuffer(own) for own in radii)
    term = PairKernel(species, cutoff, cutoff_width, length_scale, (1.0,) * len(known), known, contacts, repulsion_length, kernel)
    return _tabulated(CovarianceCurves(term), FEATURE_TOLERANCE[kernel], length_scale)


def _potential_table(curves: PotentialCurves, tolerance: float) -> RadialTable:
    if not np.any(curves.weights):
        return RadialTable(0.0, curves.cutoff, 0, np.zeros((3, 3, 1, curves.n_max)))
    return _tabulated_within(curves, tolerance / CROWD)


def _tabulated_within(curves: PotentialCurves | InstanceCurves, allowed: float) -> RadialTable:
    """Table with an error below `allowed` (in the unit of the curves), or below the limit set by rounding.

    Rounding affects the sums and the distances; the offset from the kink at which its two sides are evaluated counts as well.
    """
    everywhere = np.linspace(0.01, curves.cutoff, 400)
    values, slopes, _ = np.abs(curves.evaluate(everywhere)).max(axis=(1, 2, 3))
    at_kink = np.abs(curves.evaluate(np.array([curves.cutoff - curves.cutoff_width]))[1]).max()
    rounding = 16 * EPSILON * (curves.summands(everywhere) + slopes * curves.cutoff)
    rounding += 2 * KINK_NUDGE * curves.cutoff * at_kink
    return _tabulated(curves, max(allowed, rounding) / values, curves.term.length_scale)


@lru_cache(maxsize=8)
def _kernel_features(
    cutoff: float, cutoff_width: float, length_scale: float, kernel: str
) -> tuple[KernelFeatures, RadialTable]:
    """Kernel features and their table, cached: they do not depend on the fitted weights and are reused by every refit."""
    basis = KernelFeatures(cutoff, cutoff_width, length_scale, kernel)
    return basis, _tabulated(basis, FEATURE_TOLERANCE[kernel], length_scale)


def _tabulated(basis: Any, tolerance: float, length_scale: float) -> RadialTable:
    try:
        return tabulate(basis, tolerance)
    except ConfigError as error:
        raise ConfigError(
            f"a pair term with length_scale = {length_scale} A, cutoff_width = {basis.cutoff_width} A is too sharp to "
            "tabulate; increase them"
        ) from error


def _n_knots(table: RadialTable | None) -> int:
    return 0 if table is None else len(table.knots)


def _curves(table: RadialTable) -> np.ndarray:
    """Knots of a table rearranged to (n_functions, n_knots, 3)."""
    return np.ascontiguousarray(np.transpose(table.knots[:, :, 0, :], (2, 0, 1)))


def _padded(array: np.ndarray, n_columns: int) -> np.ndarray:
    """The array padded with zeros to `n_columns` along its last axis."""
    padded = np.zeros((*array.shape[:-1], n_columns))
    padded[..., : array.shape[-1]] = array
    return padded
