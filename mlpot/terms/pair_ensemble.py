"""Tables of the members' slopes for an ensemble of weights in a pair term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._ext.core import add_member_gradients
from ..descriptors.density import species_indices
from ..neighbours import Pairs
from ..threads import n_threads
from .pair_compiled import CompiledPairTerm, kinds_of
from .pair_kernel import PairKernel
from .protocol import Observed

N_KNOTS = 1024
"""Number of knots; linear interpolation has an error of (cutoff / N_KNOTS / length_scale)^2 / 8 relative to slopes, about 1e-5."""
SHORTEST = 0.2
"""Distance, A, below which the ratio of slope to distance is constant; no atoms come this close."""


@dataclass(frozen=True, eq=False)
class PairMembers:
    """Tables of an ensemble of pair potentials.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff : float
        A.
    kind : (n_species, n_species) int32 array
        Index of the table of each pair of elements, -1 without one.
    along : (n_kinds, N_KNOTS + 1, N_MEMBERS) float32 array
        u'(r) / (2 r), eV/A^2, at equally spaced distances up to the cutoff; the last value is repeated.
    """

    species: tuple[int, ...]
    cutoff: float
    kind: np.ndarray
    along: np.ndarray

    def core_tables(self) -> dict[str, np.ndarray]:
        """Sections of a model file, in addition to the sections of the pair term."""
        return {"m.knots": np.array([N_KNOTS]), "m.along": self.along}

    def add_gradients(self, pairs: Pairs, pair_gradients: np.ndarray) -> None:
        """Add dE/dvectors (n_pairs, 3, N_MEMBERS) of every member in single precision, eV/A."""
        species = species_indices(pairs.numbers, self.species)
        add_member_gradients(
            self.kind, self.cutoff, self.along, species, pairs.j, pairs.offsets, pairs.vectors, pairs.distances,
            pair_gradients, n_threads(),
        )  # fmt: skip


def pair_members(term: PairKernel, weights: np.ndarray) -> PairMembers:
    """Tabulate a pair term with the weights (n_sparse, N_MEMBERS) of an ensemble, 1/eV."""
    radii = np.maximum(np.linspace(0.0, term.cutoff, N_KNOTS), SHORTEST)
    radii = np.append(radii, term.cutoff)
    tables, begin = [], 0
    for kind, (points, scale) in enumerate(zip(term.sparse_radii, term.energy_scales, strict=True)):
        own = weights[begin : begin + len(points)]
        begin += len(points)
        if len(points):
            slopes = term.covariance(radii, points, scale, term.contact(kind))[1] @ own
            tables.append(0.5 * slopes / radii[:, None])
    along = np.array(tables, np.float32).reshape(len(tables), N_KNOTS + 1, weights.shape[1])
    return PairMembers(term.species, term.cutoff, kinds_of(term.species, [len(r) for r in term.sparse_radii]), along)


@dataclass(frozen=True)
class PairObserver:
    """Observer of a compiled pair term; see `Observer`."""

    term: CompiledPairTerm
    table: PairMembers
    served: ClassVar[frozenset[int]] = frozenset()

    def add(self, pairs: Pairs, into: Observed) -> None:
        """See `Observer`."""
        self.term.predict(
            pairs, into.energies, into.pair_gradients, covariances=into.covariances, variances=into.variances
        )
        self.table.add_gradients(pairs, into.members)

    def add_members(self, pairs: Pairs, members: np.ndarray) -> None:
        """See `Observer`."""
        self.table.add_gradients(pairs, members)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `Observer`."""
        return self.term.core_tables() | self.table.core_tables()
