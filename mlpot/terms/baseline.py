"""Baseline energy, known before any fit: isolated atoms, a short-range repulsion, a tabulated potential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ..descriptors.periodic import longest_bond
from ..errors import DataError
from ..neighbours import Pairs
from ..structures import LabelledStructure
from ..units import COULOMB_CONSTANT
from .glue import Glue

ZBL_WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
ZBL_RATES = np.array([3.19980, 0.94229, 0.40290, 0.20162])
SWITCH_OFF = (0.5, 0.8)
"""The repulsion is switched off between these multiples of the sum of covalent radii."""


@dataclass(frozen=True)
class Baseline:
    """Isolated-atom energies plus a screened nuclear repulsion plus a tabulated potential.

    Parameters
    ----------
    isolated_atom_energies : dict of int to float
        Energy of each free atom, eV.
    repulsion : bool
        Whether the Ziegler-Biersack-Littmark repulsion acts at distances shorter than any bond, so that dynamics cannot
        fall into a spurious well of the fit in a region without data.
    glue : Glue or None
        Tabulated potential on top of which a published potential was fitted.
    lone_atoms : dict of int to float
        For elements with a given (not fitted) isolated-atom energy: contribution of the terms to an atom without neighbours, eV.
        It is subtracted from every atom, so that a lone atom has exactly the given energy; 0 before there are weights.
    """

    isolated_atom_energies: dict[int, float] = field(default_factory=dict)
    repulsion: bool = True
    glue: Glue | None = None
    lone_atoms: dict[int, float] = field(default_factory=dict)

    def cutoff(self, species: Sequence[int]) -> float:
        """Cutoff of the repulsion and the tables for these elements, A; 0 without either."""
        repulsion = repulsion_cutoff(species) if self.repulsion else 0.0
        return max(repulsion, self.glue.cutoff if self.glue else 0.0)

    def energies(self, numbers: np.ndarray) -> np.ndarray:
        """Isolated-atom energies (n_atoms,) in eV; DataError for an element without one."""
        energies = self._by_number[numbers]
        if np.isnan(energies.sum()):
            missing = sorted({chemical_symbols[z] for z in numbers[np.isnan(energies)]})
            raise DataError(
                f"isolated_atom_energies: no entry for {missing}; add one, or leave the key out to fit the energies"
            )
        return energies

    @cached_property
    def _by_number(self) -> np.ndarray:
        """Energies indexed by atomic number, NaN for elements without one."""
        table = np.full(len(chemical_symbols), np.nan)
        table[list(self.isolated_atom_energies)] = list(self.isolated_atom_energies.values())
        return table

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add local energies (n_atoms,) in eV and pair gradients (n_pairs, 3) in eV/A."""
        energies += self.energies(pairs.numbers)
        if self.lone_atoms:
            energies -= self._of_lone_atoms[pairs.numbers]
        if self.glue:
            self.glue.predict(pairs, energies, pair_gradients)
        if self.repulsion and pairs.n_pairs and pairs.distances.min() < self._reach:
            _add_repulsion(pairs, self._reach, energies, pair_gradients)

    def core_tables(self, species: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Sections of a model file for these elements; see `models.core_file`."""
        lone = [self.lone_atoms.get(z, 0.0) for z in species]
        found = {"b.energies": self.energies(np.array(species)) - lone}
        if self.repulsion:
            reals = [COULOMB_CONSTANT, self._reach, *SWITCH_OFF, *ZBL_WEIGHTS, *ZBL_RATES]
            found |= {"z.reals": np.array(reals), "z.radii": covalent_radii[list(species)]}
        if self.glue:
            found |= {f"g.{name}": array for name, array in self.glue.core_tables(species).items()}
        return found

    @cached_property
    def _of_lone_atoms(self) -> np.ndarray:
        """`lone_atoms` as an array indexed by atomic number, 0 for other elements."""
        table = np.zeros(len(chemical_symbols))
        table[list(self.lone_atoms)] = list(self.lone_atoms.values())
        return table

    @cached_property
    def _reach(self) -> float:
        """Largest cutoff of the repulsion among elements that have an energy, A."""
        return repulsion_cutoff(self.isolated_atom_energies)


def repulsion_cutoff(species: Iterable[int]) -> float:
    """Cutoff of the repulsion among these elements, A."""
    return SWITCH_OFF[1] * longest_bond(species)


def _add_repulsion(pairs: Pairs, reach: float, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
    near = np.flatnonzero(pairs.distances < reach)
    z_i, z_j = pairs.numbers[pairs.i[near]], pairs.numbers[pairs.j[near]]
    values, slopes = zbl(pairs.distances[near], z_i, z_j)
    np.add.at(energies, pairs.i[near], 0.5 * values)
    pair_gradients[near] += (0.5 * slopes / pairs.distances[near])[:, None] * pairs.vectors[near]


def zbl(distances: np.ndarray, z_i: np.ndarray, z_j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Switched ZBL pair energies (n,) in eV and their slopes (n,) in eV/A.

    Universal screened repulsion of Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids (1985),
    times a quintic step that is twice continuously differentiable.
    """
    screening = 0.46850 / (z_i**0.23 + z_j**0.23)
    decays = ZBL_WEIGHTS * np.exp(-ZBL_RATES * (distances / screening)[:, None])
    phi, slope = decays.sum(axis=1), -(decays @ ZBL_RATES) / screening
    coulomb = COULOMB_CONSTANT * z_i * z_j / distances
    step, step_slope = switch(distances, covalent_radii[z_i] + covalent_radii[z_j])
    values = coulomb * phi
    slopes = coulomb * (slope - phi / distances)
    return values * step, slopes * step + values * step_slope


def switch(distances: np.ndarray, bonds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - 10 t^3 + 15 t^4 - 6 t^5 across `SWITCH_OFF` times the bond lengths, and its slope (1/A)."""
    width = (SWITCH_OFF[1] - SWITCH_OFF[0]) * bonds
    t = np.clip((distances - SWITCH_OFF[0] * bonds) / width, 0.0, 1.0)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2), -30 * t**2 * (1 - t) ** 2 / width


def fit_isolated_atom_energies(
    structures: Sequence[LabelledStructure], species: Sequence[int], known: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Least-squares isolated-atom energies, eV, by atomic number (minimum norm if compositions do not vary).

    Energies in `known` are kept fixed.
    """
    known = known or {}
    with_energy = [s for s in structures if s.energy is not None]
    if not with_energy:
        return dict.fromkeys(species, 0.0) | dict(known)
    counts = np.array([[np.count_nonzero(s.atoms.numbers == z) for z in species] for s in with_energy], float)
    weights = 1 / counts.sum(axis=1)
    fixed = np.array([known.get(z, 0.0) for z in species])
    is_open = np.array([z not in known for z in species])
    target = np.array([s.energy for s in with_energy]) - counts @ fixed
    fixed[is_open] = np.linalg.lstsq(counts[:, is_open] * weights[:, None], target * weights, rcond=None)[0]
    return dict(zip(species, fixed.tolist(), strict=True))
