"""Two-body term of a model: GAP's distance_2b, a kernel in the distance times a cutoff function.

The local energy of an atom is half the sum of u(r) over its neighbours; u is a Gaussian process with covariance
energy_scale^2 k((x - x') / length_scale) f_c(r) f_c(r') a(r) a(r'), independent for every pair of elements. In GAP k is a Gaussian,
x = r and a = 1. A term with contact distances may resolve short distances better than long ones (`bent`), and its prior grows like
the repulsion at short range (`short_range_growth`), so that the model is uncertain at distances shorter than any in its data. Its
sparse points are then coordinates x_s and represent values of u / (f_c a).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from ase.data import covalent_radii
from pydantic import ValidationError

from ..data.stored import Stored
from ..descriptors.density import species_indices
from ..neighbours import Pairs, find_pairs
from ..settings.fit import PairTermSettings
from ..structures import LabelledStructure
from .defaults import TermDefaults
from .headers import LONGEST_COORDINATE, Shaped, TermHeader, check_lengths, first_problem
from .pair_compiled import CompiledPairTerm, compile_pair_term, covariance_tables
from .pair_curves import InstanceCurves
from .pair_ensemble import PairObserver, pair_members
from .pair_file import SCALARS, PairHeader
from .pair_kernel import PairKernel, bent, species_pairs
from .protocol import Tables, Whole

MARGIN = 0.8
"""Sparse radii reach down to this fraction of the shortest distance in the data; the potential is not determined below that."""
APART = 0.005
"""Distance in units of the length scale within which two coordinates count as one; two sparse radii that far to either side of it
know the value and the slope there."""
FEW = 3
"""Distances of the data are sparse radii themselves if n_sparse is at least this number of times theirs."""
VARIANCE_CHUNK = 2**20
"""Largest number of covariances among neighbours in memory at a time: 256 atoms with 64 neighbours each."""


@dataclass(frozen=True)
class PairTerm(PairKernel, TermDefaults):
    """Pair potentials with a Gaussian-process prior; for parameters see `PairKernel`."""

    header_type: ClassVar[type[TermHeader]] = PairHeader

    def columns_of(self, number: int) -> np.ndarray:
        """Columns (n,) of the sparse points with which atoms of an element have covariances."""
        begins = np.cumsum([0, *map(len, self.sparse_radii)])
        kinds = [k for k, pair in enumerate(species_pairs(self.species)) if number in pair]
        return np.concatenate([np.arange(begins[k], begins[k + 1]) for k in kinds])

    def _blocks(self, pairs: Pairs) -> Iterator[tuple[slice, np.ndarray, np.ndarray, float, float]]:
        """Yield (columns, indices of directed pairs within the cutoff, sparse radii, energy scale, contact) for every pair of
        elements present."""
        kinds = self.pair_kinds(pairs)
        begin = 0
        for kind, radii in enumerate(self.sparse_radii):
            columns = slice(begin, begin + len(radii))
            begin += len(radii)
            members = np.flatnonzero(kinds == kind)
            if len(members) and len(radii):
                yield columns, members, radii, self.energy_scales[kind], self.contact(kind)

    def pair_kinds(self, pairs: Pairs) -> np.ndarray:
        """Index into `species_pairs` for each neighbour pair (n_pairs,), -1 beyond the cutoff."""
        index = species_indices(pairs.numbers, self.species)
        n = len(self.species)
        lookup = np.zeros((n, n), int)
        lookup[np.triu_indices(n)] = np.arange(n * (n + 1) // 2)
        lookup = np.maximum(lookup, lookup.T)
        return np.where(pairs.distances < self.cutoff, lookup[index[pairs.i], index[pairs.j]], -1)

    @property
    def points(self) -> tuple[np.ndarray, ...]:
        """Sparse radii (n_sparse,) of each pair of elements."""
        return self.sparse_radii

    def with_points(self, points: tuple[np.ndarray, ...]) -> PairTerm:
        """The same term with other sparse radii."""
        return replace(self, sparse_radii=points)

    def new_points(self, structures: Sequence[LabelledStructure], settings: PairTermSettings) -> list[np.ndarray]:
        """See `FittedTerm`: additional radii (n,) in A of each pair of elements that cover the distances in structures; see
        `radii_down_to`, and `radii_around` for a kernel whose functions vary between distances that are known."""
        shortest = np.full(len(self.sparse_radii), np.inf)
        places = [np.empty(0) for _ in self.sparse_radii]
        for structure in structures:
            pairs = find_pairs(structure.atoms, self.cutoff)
            kinds = self.pair_kinds(pairs)
            np.minimum.at(shortest, kinds[kinds >= 0], MARGIN * pairs.distances[kinds >= 0])
            for kind in np.unique(kinds[kinds >= 0]) if self.kernel == "matern" else ():
                own = bent(pairs.distances[kinds == kind], self.contact(kind))[0]
                places[kind] = merged(np.append(places[kind], own), APART * self.length_scale)
        new = []
        for kind, (nearest, known) in enumerate(zip(shortest, self.sparse_radii, strict=True)):
            if not np.isfinite(nearest):
                new.append(np.empty(0))
                continue
            first, last = bent(np.array([nearest, self.cutoff]), self.contact(kind))[0]
            n_left = settings.n_sparse - 2 * len(places[kind])
            if len(places[kind]) and not len(known) and FEW * len(places[kind]) <= settings.n_sparse:
                even = radii_down_to(float(first), known, float(last), n_left)
                new.append(radii_around(places[kind], even, APART * self.length_scale, float(last)))
            else:
                new.append(radii_down_to(float(first), known, float(last), settings.n_sparse))
        return new

    def add_rows(self, pairs: Pairs, energy: np.ndarray, forces: np.ndarray | None, virial: np.ndarray | None) -> None:
        """Add covariances of the energy (M,), forces (3 n_atoms, M) and virial (9, M) with the sparse points."""
        for columns, members, radii, scale, contact in self._blocks(pairs):
            values, slopes = self.covariance(pairs.distances[members], radii, scale, contact)
            energy[columns] += 0.5 * values.sum(axis=0)
            if forces is None and virial is None:
                continue
            gradients = np.zeros((pairs.n_pairs, 3, len(radii)))
            directions = pairs.vectors[members] / pairs.distances[members, None]
            gradients[members] = 0.5 * directions[:, :, None] * slopes[:, None, :]
            if forces is not None:
                forces[:, columns] += pairs.forces(gradients).reshape(-1, len(radii))
            if virial is not None:
                virial[:, columns] += pairs.virial(gradients).reshape(9, len(radii))

    def covariances(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n_atoms, M) of the local energies with the sparse points, eV^2."""
        out = np.zeros((pairs.n_atoms, self.n_sparse))
        for columns, members, radii, scale, contact in self._blocks(pairs):
            values = 0.5 * self.covariance(pairs.distances[members], radii, scale, contact)[0]
            out[:, columns] = sum_by_centre(values, pairs.i[members], pairs.n_atoms)
        return out

    def variances(self, pairs: Pairs) -> np.ndarray:
        """Prior variances (n_atoms,) of the local energies, eV^2: a double sum over the neighbours of each atom."""
        out = np.zeros(pairs.n_atoms)
        for _, members, _, scale, contact in self._blocks(pairs):
            centres = pairs.i[members]
            begins = np.searchsorted(centres, np.arange(pairs.n_atoms + 1))
            # one row per atom, padded with the cutoff distance, where the covariance vanishes
            table = np.full((pairs.n_atoms, int(np.diff(begins).max())), self.cutoff)
            table[centres, np.arange(len(members)) - begins[centres]] = pairs.distances[members]
            chunk = max(VARIANCE_CHUNK // table.shape[1] ** 2, 1)
            for begin in range(0, pairs.n_atoms, chunk):
                part = slice(begin, begin + chunk)
                out[part] += 0.25 * scale**2 * self._double_sums(table[part], contact)
        return out

    def _double_sums(self, distances: np.ndarray, contact: float) -> np.ndarray:
        """Sums of Cov(u(r), u(r')) over all pairs of distances in each row (n, m), for an energy scale of 1 eV."""
        steps = self.envelope(distances.ravel(), contact)[0].reshape(distances.shape)
        x = bent(distances.ravel(), contact)[0].reshape(distances.shape)
        return np.einsum("aj,ajk,ak->a", steps, self.correlation(x[:, :, None] - x[:, None, :])[0], steps)

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3)."""
        for columns, members, radii, scale, contact in self._blocks(pairs):
            values, slopes = self.covariance(pairs.distances[members], radii, scale, contact)
            energies += sum_by_centre(0.5 * (values @ weights[columns]), pairs.i[members], pairs.n_atoms)
            along = 0.5 * (slopes @ weights[columns]) / pairs.distances[members]
            pair_gradients[members] += along[:, None] * pairs.vectors[members]

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Variances (n_atoms,) of an atom's shares of its bonds, summed as if they were independent, eV^2.

        This is QUIP's local_gap_variance of distance_2b; see `InstanceCurves`. `regularisation` in eV.
        """
        present = [kind for kind, radii in enumerate(self.sparse_radii) if len(radii)]
        column = np.full(len(self.sparse_radii) + 1, -1)
        column[present] = np.arange(len(present))
        columns = column[self.pair_kinds(pairs)]  # beyond the cutoff: the last entry
        members = np.flatnonzero(columns >= 0)
        if not len(members):
            return np.zeros(pairs.n_atoms)
        curves = InstanceCurves(self, regularisation).evaluate(pairs.distances[members])[0, :, :, 0]
        return sum_by_centre(curves[np.arange(len(members)), columns[members]], pairs.i[members], pairs.n_atoms)

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float = 1e-8,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledPairTerm:
        """Compile the term with fixed weights to double-precision tables, which also give all covariances.

        Parameters
        ----------
        weights : (n_sparse,) array
            Weights of the sparse radii, 1/eV.
        tolerance : float
            Error of a local energy in eV; limited from below by rounding errors of the sum over the weights.
        regularisation : float, optional
            In eV; if given, variances are `instance_variances` instead of prior variances.

        Raises
        ------
        ConfigError
            If length_scale or cutoff_width is too short for a table.
        """
        return compile_pair_term(self, weights, tolerance, regularisation)

    def observer(self, compiled: CompiledPairTerm, members: np.ndarray, whole: Whole | None) -> PairObserver:
        """See `FittedTerm`."""
        # without a many-body term, prior variances need the features anyway
        return PairObserver(compiled, pair_members(self, members), {} if whole else covariance_tables(self))

    @classmethod
    def check_settings(cls, settings: PairTermSettings) -> None:
        """See `FittedTerm`."""
        check_lengths(settings.cutoff, length_scale=settings.length_scale)
        try:
            Shaped.model_validate({name: getattr(settings, name) for name in ("cutoff", "cutoff_width")})
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    @classmethod
    def empty(
        cls, settings: PairTermSettings, species: tuple[int, ...], energy_scale: float, tables: Tables | None = None
    ) -> PairTerm:
        """See `FittedTerm`."""
        nothing = tuple(np.empty(0) for _ in species_pairs(species))
        return cls(
            species, settings.cutoff, settings.cutoff_width, settings.length_scale, (energy_scale,) * len(nothing), nothing,
            contacts=_contacts(species) if settings.bent else (),
            repulsion_length=settings.repulsion_length if settings.bent else 0.0,
            kernel=settings.kernel,
        )  # fmt: skip

    def description(self) -> dict[str, Any]:
        """See `Term`."""
        return {"type": "pair", "n_arrays": len(self.sparse_radii), **{name: getattr(self, name) for name in SCALARS}}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Term`."""
        return {f"sparse/{n}": radii for n, radii in enumerate(self.sparse_radii)}

    @classmethod
    def read(cls, header: PairHeader, stored: Stored, place: str) -> PairTerm:
        """See `Term`."""
        values = header.model_dump(exclude={"type", "n_arrays", "energy_scale"})
        values["energy_scales"] = header.energy_scale if header.energy_scales is None else header.energy_scales
        names = [f"{place}/sparse/{n}" for n in range(header.n_arrays)]
        return cls(**values, sparse_radii=tuple(stored.floats(name, (None,), 0.0, LONGEST_COORDINATE) for name in names))


def _contacts(species: tuple[int, ...]) -> tuple[float, ...]:
    """Sums of covalent radii of every pair of elements, A. Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j."""
    return tuple(float(covalent_radii[a] + covalent_radii[b]) for a, b in species_pairs(species))


def radii_down_to(shortest: float, known: np.ndarray, cutoff: float, n_sparse: int) -> np.ndarray:
    """New sparse radii (n,) in A that extend the known ones down to the shortest distance.

    Initial radii are equally spaced up to the cutoff; later ones continue the sequence downwards.
    """
    if len(known) and shortest >= known.min():
        return np.empty(0)
    if not len(known):
        # a sparse radius at the cutoff itself would have no effect, since the covariance vanishes there
        return np.linspace(shortest, cutoff, n_sparse, endpoint=False)
    spacing = (cutoff - known.min()) / len(known)
    more = known.min() - spacing * np.arange(1, np.ceil((known.min() - shortest) / spacing) + 1)
    return np.where(more > 0, more, shortest)


def radii_around(places: np.ndarray, others: np.ndarray, apart: float, cutoff: float) -> np.ndarray:
    """Sparse radii (n,) in A on both sides of places, below the cutoff, and others that are not as close to these."""
    near = np.concatenate([places - apart, places + apart])
    gaps = np.abs(others[:, None] - near).min(axis=1)
    found = np.sort(np.concatenate([near, others[gaps > apart]]))
    return found[(found > 0) & (found < cutoff)]


def merged(places: np.ndarray, apart: float) -> np.ndarray:
    """Sorted places (n,), each further than `apart` from the one before."""
    found = np.sort(places)
    return found[np.concatenate([[True], np.diff(np.round(found / apart)) > 0])]


def sum_by_centre(values: np.ndarray, centres: np.ndarray, n_atoms: int) -> np.ndarray:
    """Sum rows by centre (n_atoms, ...); `centres` are sorted, and atoms without rows get zero."""
    out = np.zeros((n_atoms, *values.shape[1:]))
    if len(values):
        present, begin = np.unique(centres, return_index=True)
        out[present] = np.add.reduceat(values, begin, axis=0)
    return out
