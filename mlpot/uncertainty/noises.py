"""Noises of labels as a fit has found them: the part of them that the model cannot explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Noises:
    """Noises of the labels of no special config_type: the part of them that a model cannot explain, its discrepancy.

    Parameters
    ----------
    energy, virial : float
        eV/atom, times sqrt(n_atoms) for a structure.
    forces : mapping of int to float
        eV/A by atomic number.
    sizes : mapping of int to float
        Root mean square of the labelled forces themselves, eV/A by atomic number: what an error is when nothing is known.
    """

    energy: float = 0.0
    virial: float = 0.0
    forces: Mapping[int, float] = field(default_factory=dict)
    sizes: Mapping[int, float] = field(default_factory=dict)

    def standing_in(self, unseen: int, known: int, similarity: float) -> Noises:
        """With the forces on an element that the data had not, whose stand-in is a known one: the part of the stand-in's forces
        that the two elements, as similar as `similarity`, do not share is not known."""
        share = 1.0 - min(similarity, 1.0) ** 2
        noise = float(np.sqrt(self.forces.get(known, 0.0) ** 2 + share * self.sizes.get(known, 0.0) ** 2))
        return replace(self, forces={**self.forces, unseen: noise})

    def of_forces(self, numbers: np.ndarray) -> np.ndarray:
        """Those (n_atoms,) of forces on atoms of these elements; elements without forces in the data count as the worst."""
        worst = max(self.forces.values(), default=0.0)
        return np.array([self.forces.get(z, worst) for z in numbers.tolist()])

    def by_label(self) -> dict[str, float]:
        """ "energy" and "virial" in eV/atom, "forces" in eV/A as the root mean square over the elements."""
        forces = float(np.sqrt(np.mean(np.square(list(self.forces.values()))))) if self.forces else 0.0
        return {"energy": self.energy, "forces": forces, "virial": self.virial}
