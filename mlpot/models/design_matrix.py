"""Rows of the design matrix: covariances of a structure's labels with the sparse points.

Rows hold what no choice of noise, energy scale or isolated-atom energy changes, so none of these makes a row anew.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from ..neighbours import Pairs, find_pairs
from ..structures import LabelledStructure
from .baseline import Baseline
from .settings import FitConfig, NoiseSettings
from .terms import FittedTerm, Term

VIRIAL_ROWS = [0, 4, 8, 5, 2, 1]
"""xx yy zz yz xz xy among the nine components of a 3 x 3 matrix."""


class Group(NamedTuple):
    """Rows that share a noise: a kind of label, and the config_type where it has noises of its own (else "")."""

    label: str
    config_type: str


Rows = dict[Group, np.ndarray]
"""Rows (n, n_columns) of each group: covariances with the M sparse points, the label, the number of atoms of each element."""


@dataclass(frozen=True)
class Design:
    """What makes rows of structures.

    Energies and virials are divided by sqrt(n_atoms), so that the noise of every row of a group is the same. Columns are
    covariances with the sparse points for an energy scale of 1 eV, then the label without repulsion, then (in rows of
    energies) the counts of atoms that isolated-atom energies multiply.

    Parameters
    ----------
    terms : tuple of FittedTerm
        Whatever their energy scales are, rows are made for 1 eV.
    baseline : Baseline
        Its isolated-atom energies are left out.
    species : tuple of int
        Sorted atomic numbers.
    config_types : frozenset of str
        Those that have noises of their own.
    """

    terms: tuple[FittedTerm, ...]
    baseline: Baseline
    species: tuple[int, ...]
    config_types: frozenset[str] = frozenset()

    @property
    def n_sparse(self) -> int:
        return sum(term.n_sparse for term in self.terms)

    @property
    def n_columns(self) -> int:
        """M sparse points, the label, a count per element."""
        return self.n_sparse + 1 + len(self.species)

    @cached_property
    def unit_terms(self) -> tuple[FittedTerm, ...]:
        """The terms with energy scales of 1 eV."""
        return tuple(cast(FittedTerm, replace(cast(Any, term), energy_scale=1.0)) for term in self.terms)

    @cached_property
    def _cutoff(self) -> float:
        return reach(self.terms, self.baseline, self.species)

    @cached_property
    def _known(self) -> Baseline:
        return replace(self.baseline, isolated_atom_energies=dict.fromkeys(self.species, 0.0))

    def rows(self, structure: LabelledStructure) -> Rows:
        """Rows of the labels that a structure has."""
        n, n_atoms = self.n_sparse, structure.n_atoms
        pairs = find_pairs(structure.atoms, self._cutoff)
        block = np.zeros((1 + 3 * n_atoms + 9, self.n_columns))
        energy, forces, virial = block[:1], block[1 : 1 + 3 * n_atoms], block[1 + 3 * n_atoms :]
        for term, part in zip(self.unit_terms, columns(self.terms), strict=True):
            term.add_rows(
                pairs,
                energy[0, part],
                None if structure.forces is None else forces[:, part],
                None if structure.virial is None else virial[:, part],
            )
        found = self._labels(structure, pairs, energy[:, n:], forces[:, n], virial[:, n])
        config_type = structure.config_type if structure.config_type in self.config_types else ""
        everything = {"energy": energy, "forces": forces, "virial": virial[VIRIAL_ROWS]}
        rows = {Group(label, config_type): everything[label] for label in found}
        for group, values in rows.items():
            if group.label != "forces":
                values /= np.sqrt(n_atoms)
        return rows

    def _labels(
        self,
        structure: LabelledStructure,
        pairs: Pairs,
        energy: np.ndarray,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> list[str]:
        """Write labels minus repulsion, energies (1, 1 + n_species) with the counts of elements; which labels there are."""
        known, gradients = np.zeros(structure.n_atoms), np.zeros((pairs.n_pairs, 3))
        self._known.predict(pairs, known, gradients)
        found = []
        if structure.energy is not None:
            energy[0] = [
                structure.energy - known.sum(),
                *(np.count_nonzero(structure.atoms.numbers == z) for z in self.species),
            ]
            found.append("energy")
        if structure.forces is not None:
            forces[:] = (structure.forces - pairs.forces(gradients)).ravel()
            found.append("forces")
        if structure.virial is not None:
            virial[:] = (structure.virial - pairs.virial(gradients)).ravel()
            found.append("virial")
        return found

    def __reduce__(self) -> tuple:
        return _restored, (self._pickled,)

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps((self.terms, self.baseline, self.species, self.config_types))


@lru_cache(maxsize=2)
def _restored(pickled: bytes) -> Design:
    """The design that a worker process was sent, with the tables it has made since, if it was sent before."""
    return Design(*pickle.loads(pickled))


def columns(terms: Sequence[Term]) -> list[slice]:
    """Columns of the design matrix that belong to each term."""
    ends = np.cumsum([0, *(term.n_sparse for term in terms)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def noises_of(config: FitConfig, config_type: str) -> NoiseSettings:
    """Noises of one config_type: its own where given, else the general ones of a resolved configuration."""
    own = config.config_type_noise.get(config_type, NoiseSettings())
    return NoiseSettings(
        energy_noise=own.energy_noise or config.energy_noise,
        force_noise=own.force_noise or config.force_noise,
        virial_noise=own.virial_noise or config.virial_noise,
    )


def noise_of(config: FitConfig, group: Group) -> float:
    """Standard deviation of every row of a group: eV/atom times sqrt(n_atoms) divided out, or eV/A."""
    noises = noises_of(config, group.config_type)
    return {"energy": noises.energy_noise, "forces": noises.force_noise, "virial": noises.virial_noise}[group.label]


def reach(terms: Sequence[Term], baseline: Baseline, species: Sequence[int]) -> float:
    """Largest cutoff of a model's parts, A."""
    return max([baseline.cutoff(species), *(term.cutoff for term in terms)])
