"""Atoms that are farther than the cutoff from all others: a model says nothing about what acts on them.

The energy is the same at every distance beyond the cutoff, with no uncertainty, whatever the labels would show there. So a
structure with such an atom is labelled until a label has shown that the interactions have ended: forces on these atoms within the
target, and forces that over the last half angstrom change the energy by less than its target. At that distance and beyond
predictions are trusted. A label that shows more would only contradict what the model has learned inside the cutoff, and is not
learned.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ..models.prediction import counted_error
from ..neighbours import find_pairs
from ..settings.learning import Rules

RANGE = 0.5
"""Decay length of interactions beyond the cutoff, A: the energy that is left is about the force times this. Bonds decay faster."""
CLOSER = 0.05
"""An atom may be closer by this (A) than one whose label has shown that the interactions have ended."""


def without_neighbours(atoms: Atoms, cutoff: float) -> np.ndarray:
    """Indices of the atoms without a neighbour within the cutoff (A); none in a structure of one atom."""
    if len(atoms) < 2:
        return np.empty(0, int)
    return np.flatnonzero(np.diff(find_pairs(atoms, cutoff).offsets) == 0)


class EndsOfInteraction:
    """The distances, by element, beyond which labels have shown that nothing acts."""

    def __init__(self) -> None:
        self._distances: dict[int, float] = {}

    def learn(self, atoms: Atoms, forces: np.ndarray, alone: np.ndarray, rules: Rules) -> None:
        """Take note of a label with forces (n_atoms, 3), eV/A, and atoms `alone` (indices) without neighbours."""
        if len(alone) and not are_felt(forces, alone, rules):
            for z, distance in _nearest(atoms, alone):
                self._distances[z] = min(distance, self._distances.get(z, np.inf))

    def are_passed(self, atoms: Atoms, alone: np.ndarray) -> bool:
        """Whether all atoms `alone` (indices) are at least as far from the others as a label that was learned."""
        return all(distance > self._distances.get(z, np.inf) - CLOSER for z, distance in _nearest(atoms, alone))


def are_felt(forces: np.ndarray, alone: np.ndarray, rules: Rules) -> bool:
    """Whether the forces (n_atoms, 3), eV/A, on atoms `alone` (indices) are more than the targets leave out."""
    felt = np.zeros_like(forces)
    felt[alone] = forces[alone]
    left = RANGE * np.sqrt((felt**2).sum(axis=1)).sum() / 2  # a bond pulls at both of its ends
    return bool(counted_error(felt) > rules.aim or left > len(forces) * rules.target_energy)


def _nearest(atoms: Atoms, alone: np.ndarray) -> list[tuple[int, float]]:
    """Atomic number of each of these atoms, and the distance to the nearest other atom, A."""
    others = [np.delete(np.arange(len(atoms)), k) for k in alone]
    return [
        (int(atoms.numbers[k]), float(atoms.get_distances(k, rest, mic=bool(atoms.pbc.any())).min()))
        for k, rest in zip(alone.tolist(), others, strict=True)
    ]
