"""Fitted noises of the labels: the part of the labels that the model cannot explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import chemical_symbols


@dataclass(frozen=True)
class Noises:
    """Fitted noises of labels without a special config_type: the model discrepancy, which the model cannot explain.

    Parameters
    ----------
    energy, virial : float
        Noise per atom, eV; multiplied by sqrt(n_atoms) for a structure.
    forces : mapping of int to float
        Noise by atomic number, eV/A.
    sizes : mapping of int to float
        Root mean square of the labelled forces by atomic number, eV/A: the error to expect without any knowledge.
    guess : float
        Ratio of the force errors of known elements that others represent to the errors that follow from their similarity.
    """

    energy: float = 0.0
    virial: float = 0.0
    forces: Mapping[int, float] = field(default_factory=dict)
    sizes: Mapping[int, float] = field(default_factory=dict)
    guess: float = 1.0

    def lent(self, unseen: int, known: int) -> Noises:
        """Copy in which an unseen element has the force noise of the known one that represents it."""
        return replace(self, forces={**self.forces, unseen: self.forces.get(known, 0.0)})

    def of_guess(self, known: int, similarity: float) -> float:
        """Standard deviation of the forces on an unseen element that a known one represents, eV/A.

        It is the part of the known one's forces that the two do not share, sqrt(1 - similarity^2) of their root mean square, times
        `guess`.
        """
        return self.guess * float(np.sqrt(1.0 - min(similarity, 1.0) ** 2)) * self.sizes.get(known, 0.0)

    def of_forces(self, numbers: np.ndarray) -> np.ndarray:
        """Force noises (n_atoms,), eV/A; elements without forces in the data get the largest one."""
        return by_element(self.forces, numbers, max(self.forces.values(), default=0.0))

    def by_label(self) -> dict[str, float]:
        """Noises by kind of label: "energy" and "virial" in eV/atom, "forces" in eV/A (root mean square over the elements)."""
        forces = float(np.sqrt(np.mean(np.square(list(self.forces.values()))))) if self.forces else 0.0
        return {"energy": self.energy, "forces": forces, "virial": self.virial}


def by_element(values: Mapping[int, float], numbers: np.ndarray, otherwise: float) -> np.ndarray:
    """Values (n_atoms,) looked up by atomic number, with a default."""
    table = np.full(len(chemical_symbols), otherwise, float)
    table[list(values)] = list(values.values())
    return table[numbers]
