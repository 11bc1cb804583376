"""Rows of the design matrix: covariances of a structure's labels with the sparse points.

Rows do not depend on noises, energy scales or isolated-atom energies, so a change of these does not require new rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from ase.data import chemical_symbols

from ..neighbours import Pairs, find_pairs
from ..settings.fit import NOISE_OF_LABEL, FitConfig
from ..structures import LabelledStructure
from ..terms.baseline import Baseline
from ..terms.layout import columns, reach
from ..terms.lone_atoms import lone_covariances
from ..terms.protocol import FittedTerm
from .prior import Prior

VIRIAL_ROWS = [0, 4, 8, 5, 2, 1]
"""xx yy zz yz xz xy among the nine components of a 3 x 3 matrix."""


@dataclass(frozen=True, order=True)
class Group:
    """Rows that share a noise: a kind of label, the config_type where it has noises of its own (else ""), and for forces the
    element of the atoms they act on (else 0)."""

    label: str
    config_type: str
    number: int = 0


Rows = dict[Group, np.ndarray]
"""Rows (n, n_columns) of each group: covariances with the M sparse points, the label, the number of atoms of each element."""


@dataclass(frozen=True)
class Part:
    """Rows of a group among the rows of all labels of a structure.

    Parameters
    ----------
    group : Group
    rows : (n,) int array
        Indices among the energy (row 0), the forces (3 n_atoms rows) and the nine components of the virial.
    scale : float
        Factor between the noise of the group and of its labels: sqrt(n_atoms) for energies and virials, 1 for forces.
    """

    group: Group
    rows: np.ndarray
    scale: float


def parts_of(structure: LabelledStructure, config_types: frozenset[str] | set[str]) -> list[Part]:
    """The groups of a structure's labels, in the order of its rows; `config_types` have noises of their own."""
    config_type = structure.config_type if structure.config_type in config_types else ""
    numbers, root = structure.atoms.numbers, float(np.sqrt(structure.n_atoms))
    found = []
    if structure.energy is not None:
        found.append(Part(Group("energy", config_type), np.array([0]), root))
    if structure.forces is not None:
        for number in np.unique(numbers).tolist():
            atoms = np.flatnonzero(numbers == number)
            rows = (1 + 3 * atoms[:, None] + np.arange(3)).ravel()
            found.append(Part(Group("forces", config_type, number), rows, 1.0))
    if structure.virial is not None:
        found.append(Part(Group("virial", config_type), 1 + 3 * structure.n_atoms + np.array(VIRIAL_ROWS), root))
    return found


@dataclass(frozen=True)
class Design:
    """Computes the rows of the design matrix for structures.

    Energies and virials are divided by sqrt(n_atoms), so that all rows of a group have the same noise. The columns are the
    covariances with the sparse points for an energy scale of 1 eV, then the label minus repulsion, then (in rows of energies) the
    numbers of atoms of each element, which isolated-atom energies multiply.

    Parameters
    ----------
    terms : tuple of FittedTerm
        Rows are computed for energy scales of 1 eV, whatever the scales of the terms.
    baseline : Baseline
        Its isolated-atom energies are not used here; for elements in its `lone_atoms`, rows of energies are differences from the
        covariances of lone atoms.
    species : tuple of int
        Sorted atomic numbers.
    config_types : frozenset of str
        config_types with noises of their own.
    jitter : float
        Addition to the diagonals of k_mm.
    """

    terms: tuple[FittedTerm, ...]
    baseline: Baseline
    species: tuple[int, ...]
    config_types: frozenset[str] = frozenset()
    jitter: float = 1e-8

    @property
    def n_sparse(self) -> int:
        return sum(term.n_sparse for term in self.terms)

    @property
    def n_columns(self) -> int:
        """Number of columns: M sparse points, the label, and a count per element."""
        return self.n_sparse + 1 + len(self.species)

    @cached_property
    def unit_terms(self) -> tuple[FittedTerm, ...]:
        """The terms with energy scales of 1 eV."""
        return tuple(term.with_scales(1.0) for term in self.terms)

    @cached_property
    def prior(self) -> Prior:
        """Prior of the weights."""
        return Prior.of(self.unit_terms, self.jitter)

    @cached_property
    def _cutoff(self) -> float:
        return reach(self.terms, self.baseline, self.species)

    @cached_property
    def _known(self) -> Baseline:
        return replace(self.baseline, isolated_atom_energies=dict.fromkeys(self.species, 0.0), lone_atoms={})

    @cached_property
    def _lone_rows(self) -> np.ndarray:
        """Covariances (n_species, M) of the energies of lone atoms; 0 for elements whose energy was not given."""
        nothing = np.zeros(self.n_sparse)
        is_given = [z in self.baseline.lone_atoms for z in self.species]
        rows = [lone_covariances(self.unit_terms, z) if g else nothing for z, g in zip(self.species, is_given, strict=True)]
        return np.array(rows).reshape(len(self.species), self.n_sparse)

    def rows(self, structure: LabelledStructure) -> Rows:
        """Rows of the labels that a structure has."""
        pairs = find_pairs(structure.atoms, self._cutoff)
        block = self._block(structure, pairs, self.n_columns)
        energy, forces, virial = _parts(block[:, self.n_sparse :], structure.n_atoms)
        self._labels(structure, pairs, energy, forces[:, 0], virial[:, 0])
        return self._grouped(structure, block)

    def whitened_rows(self, rows: Rows) -> Iterator[tuple[Group, np.ndarray, np.ndarray]]:
        """Rows of groups in whitened coordinates (n, M), and the labels (n,) without the baseline's isolated-atom energies."""
        energies = np.array([self.baseline.isolated_atom_energies[z] for z in self.species])
        m = self.n_sparse
        for group, part in rows.items():
            yield group, self.prior.whitened(part[:, :m]), part[:, m] - part[:, m + 1 :] @ energies

    def covariances(self, structure: LabelledStructure) -> np.ndarray:
        """Covariances with the sparse points only, with the rows of all groups stacked."""
        block = self._block(structure, find_pairs(structure.atoms, self._cutoff), self.n_sparse)
        return np.concatenate(list(self._grouped(structure, block).values()))

    def _block(self, structure: LabelledStructure, pairs: Pairs, n_columns: int) -> np.ndarray:
        """Covariances of the energy, the forces and all nine virial components, in the first of `n_columns` columns."""
        block = np.zeros((1 + 3 * structure.n_atoms + 9, n_columns))
        energy, forces, virial = _parts(block, structure.n_atoms)
        for term, part in zip(self.unit_terms, columns(self.terms), strict=True):
            term.add_rows(
                pairs,
                energy[0, part],
                None if structure.forces is None else forces[:, part],
                None if structure.virial is None else virial[:, part],
            )
        if self.baseline.lone_atoms:
            energy[0, : self.n_sparse] -= self._counts(structure) @ self._lone_rows
        return block

    def _counts(self, structure: LabelledStructure) -> np.ndarray:
        """Number of atoms (n_species,) of each element."""
        return np.array([np.count_nonzero(structure.atoms.numbers == z) for z in self.species])

    def _grouped(self, structure: LabelledStructure, block: np.ndarray) -> Rows:
        """The rows of a block that belong to labels."""
        return {part.group: block[part.rows] / part.scale for part in parts_of(structure, self.config_types)}

    def _labels(
        self, structure: LabelledStructure, pairs: Pairs, energy: np.ndarray, forces: np.ndarray, virial: np.ndarray
    ) -> None:
        """Write the labels minus repulsion; the energy row (1, 1 + n_species) also gets the counts of the elements."""
        known, gradients = np.zeros(structure.n_atoms), np.zeros((pairs.n_pairs, 3))
        self._known.predict(pairs, known, gradients)
        if structure.energy is not None:
            energy[0, 0] = structure.energy - known.sum()
            energy[0, 1:] = self._counts(structure)
        if structure.forces is not None:
            forces[:] = (structure.forces - pairs.forces(gradients)).ravel()
        if structure.virial is not None:
            virial[:] = (structure.virial - pairs.virial(gradients)).ravel()

    def __reduce__(self) -> tuple:
        return _restored, (self._pickled,)

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps((self.terms, self.baseline, self.species, self.config_types, self.jitter))


def _parts(block: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of a block: energy (1, ..), forces (3 n_atoms, ..) and virial (9, ..)."""
    return block[:1], block[1 : 1 + 3 * n_atoms], block[1 + 3 * n_atoms :]


@lru_cache(maxsize=2)
def _restored(pickled: bytes) -> Design:
    """Unpickle a design in a worker process; a design received before is reused together with its cached tables."""
    return Design(*pickle.loads(pickled))


def noise_of(config: FitConfig, group: Group) -> float:
    """Standard deviation of every row of a group: eV/atom times sqrt(n_atoms) divided out, or eV/A.

    The noise of its config_type if there is one, else the general noise of the resolved configuration.
    """
    key = NOISE_OF_LABEL[group.label]
    value = getattr(config.config_type_noise.get(group.config_type), key, None) or getattr(config, key)
    return value[chemical_symbols[group.number]] if isinstance(value, dict) else value
