"""Three-body term of an imported model: GAP's angle_3b.

The local energy of an atom of one element is the sum over unordered pairs of its neighbours of f_c(r_ij) f_c(r_ik) G(x),
x = (r_ij + r_ik, (r_ij - r_ik)^2, r_jk); G is a Gaussian process with a squared-exponential covariance in x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator
from scipy.linalg import solve_triangular

from ..data.stored import Stored
from ..descriptors.density import species_indices
from ..descriptors.radial_basis import cosine_cutoff
from ..neighbours import Pairs
from .defaults import TermDefaults
from .headers import LONGEST_COORDINATE, Element, Positive, Shaped, Species, TermHeader, check_lengths
from .linear_algebra import prior_factor
from .three_body_compiled import CompiledThreeBodyTerm, compile_three_body
from .three_body_kernel import TripletKernel

SCALARS = ("species", "centre", "neighbours", "cutoff", "cutoff_width", "energy_scale")


class ThreeBodyHeader(Shaped, TermHeader):
    """Header of a `ThreeBodyTerm`."""

    type: Literal["three_body"]
    n_arrays: Literal[3]
    species: Species
    centre: Element
    neighbours: tuple[Element, Element]
    energy_scale: Positive

    @model_validator(mode="after")
    def _knows_its_elements(self) -> ThreeBodyHeader:
        unknown = {self.centre, *self.neighbours} - set(self.species)
        if unknown:
            raise ValueError(f"centre, neighbours: {sorted(unknown)} are not among species {list(self.species)}")
        return self

    @property
    def own_species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        return self.species


@dataclass(frozen=True)
class Triplets:
    """All triplets of a term in a structure.

    Parameters
    ----------
    centres : (n,) int array
        Central atoms.
    first, second : (n,) int arrays
        Indices of the two pairs of the central atom.
    coordinates : (n, 3) array
        Coordinates x, in A, A^2, A.
    steps : (3, n) array
        Product of the two cutoff functions and its derivatives with respect to the two distances.
    """

    centres: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coordinates: np.ndarray
    steps: np.ndarray


@dataclass(frozen=True)
class ThreeBodyTerm(TripletKernel, TermDefaults):
    """Energies of triplets with a Gaussian-process prior; for parameters see `TripletKernel`."""

    header_type: ClassVar[type[TermHeader]] = ThreeBodyHeader

    def columns_of(self, number: int) -> np.ndarray:
        """Columns (n,) of the sparse points with which atoms of an element have covariances."""
        return np.arange(self.n_sparse if number == self.centre else 0)

    def triplets(self, pairs: Pairs) -> Triplets:
        """All triplets of a structure; UnknownSpeciesError if an element is not in `species`."""
        species_indices(pairs.numbers, self.species)
        near = (pairs.distances < self.cutoff) & (pairs.numbers[pairs.i] == self.centre)
        kinds = [np.flatnonzero(near & (pairs.numbers[pairs.j] == z)) for z in self.neighbours]
        found = [np.empty((0, 2), int)]
        for atom in np.unique(pairs.i[near]):
            first, second = (members[pairs.i[members] == atom] for members in kinds)
            both = np.array(np.meshgrid(first, second, indexing="ij")).reshape(2, -1).T
            found.append(both[both[:, 0] < both[:, 1]] if self.neighbours[0] == self.neighbours[1] else both)
        first, second = np.concatenate(found).T
        r, s = pairs.distances[first], pairs.distances[second]
        apart = np.linalg.norm(pairs.vectors[second] - pairs.vectors[first], axis=1)
        (f, f_slope, _), (g, g_slope, _) = (cosine_cutoff(d, self.cutoff, self.cutoff_width) for d in (r, s))
        steps = np.array([f * g, f_slope * g, f * g_slope])
        return Triplets(pairs.i[first], first, second, np.stack([r + s, (r - s) ** 2, apart], axis=1), steps)

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Variances (n_atoms,) of an atom's triplets, summed as if they were independent, eV^2.

        This is QUIP's local_gap_variance of angle_3b. It counts each triplet twice, hence the factor 2 before the square of
        `regularisation` (eV).
        """
        t = self.triplets(pairs)
        variance = 2 * regularisation**2
        factor = prior_factor(self.prior()[0], variance)
        known = solve_triangular(factor, self.covariance(t.coordinates).T, lower=True)
        left = t.steps[0] ** 2 * (self.energy_scale**2 + variance - np.einsum("st,st->t", known, known))
        return np.bincount(t.centres, left, minlength=pairs.n_atoms)

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3)."""
        t = self.triplets(pairs)
        summands = self.covariance(t.coordinates) * weights
        value = summands.sum(axis=1)
        energies += np.bincount(t.centres, t.steps[0] * value, minlength=pairs.n_atoms)
        pull = (self.sparse_coordinates - t.coordinates[:, None, :]) / self.length_scales**2
        slope = np.einsum("ts,tsx->xt", summands, pull) * t.steps[0]
        r, s = pairs.distances[t.first], pairs.distances[t.second]
        along_first = (t.steps[1] * value + slope[0] + 2 * (r - s) * slope[1]) / r
        along_second = (t.steps[2] * value + slope[0] - 2 * (r - s) * slope[1]) / s
        u, v = pairs.vectors[t.first], pairs.vectors[t.second]
        across = (slope[2] / t.coordinates[:, 2])[:, None] * (v - u)
        np.add.at(pair_gradients, t.first, along_first[:, None] * u - across)
        np.add.at(pair_gradients, t.second, along_second[:, None] * v + across)

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledThreeBodyTerm:
        """See `Term`; with a regularisation it also computes `instance_variances`. Only in double precision, without covariances."""
        return compile_three_body(self, weights, tolerance, regularisation)

    def description(self) -> dict[str, Any]:
        """See `Term`."""
        return {"type": "three_body", "n_arrays": 3, **{name: getattr(self, name) for name in SCALARS}}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Term`."""
        return {"sparse/0": self.length_scales, "sparse/1": self.sparse_coordinates, "sparse/2": self.sparse_cutoffs}

    @classmethod
    def read(cls, header: ThreeBodyHeader, stored: Stored, place: str) -> ThreeBodyTerm:
        """See `Term`."""
        sparse = f"{place}/sparse"
        lengths = stored.positive(f"{sparse}/0", (3,))
        check_lengths(header.cutoff, **{f"{sparse}/0, {axis}": lengths[k] for k, axis in ((0, "first"), (2, "third"))})
        coordinates = stored.floats(f"{sparse}/1", (None, 3), -LONGEST_COORDINATE**2, LONGEST_COORDINATE**2)
        cutoffs = stored.floats(f"{sparse}/2", (len(coordinates),), 0.0, 1.0)
        values = header.model_dump(exclude={"type", "n_arrays"})
        return cls(**values, length_scales=lengths, sparse_coordinates=coordinates, sparse_cutoffs=cutoffs)
