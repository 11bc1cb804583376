"""Noises of labels: what a configuration says, and what a fit has found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from .design_matrix import Group
from .settings import NOISE_OF_LABEL, FitConfig


@dataclass(frozen=True)
class Noises:
    """Noises of the labels of no special config_type: the part of them that a model cannot explain, its discrepancy.

    Parameters
    ----------
    energy, virial : float
        eV/atom, times sqrt(n_atoms) for a structure.
    forces : mapping of int to float
        eV/A by atomic number.
    """

    energy: float = 0.0
    virial: float = 0.0
    forces: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[Group, float]) -> Noises:
        """Of groups; where only special config_types have a kind of label, the largest of theirs."""

        def largest(label: str, number: int) -> float:
            own = {g: noise for g, noise in found.items() if (g.label, g.number) == (label, number)}
            general = [noise for g, noise in own.items() if not g.config_type]
            return float(max(general or own.values(), default=0.0))

        numbers = sorted({g.number for g in found if g.label == "forces"})
        return cls(largest("energy", 0), largest("virial", 0), {z: largest("forces", z) for z in numbers})

    def of_forces(self, numbers: np.ndarray) -> np.ndarray:
        """Those (n_atoms,) of forces on atoms of these elements; elements without forces in the data count as the worst."""
        worst = max(self.forces.values(), default=0.0)
        return np.array([self.forces.get(z, worst) for z in numbers.tolist()])

    def by_label(self) -> dict[str, float]:
        """ "energy" and "virial" in eV/atom, "forces" in eV/A as the root mean square over the elements."""
        forces = float(np.sqrt(np.mean(np.square(list(self.forces.values()))))) if self.forces else 0.0
        return {"energy": self.energy, "forces": forces, "virial": self.virial}

    def described(self) -> str:
        """For people."""
        forces = ", ".join(f"{chemical_symbols[z]} {noise:.3g}" for z, noise in self.forces.items())
        return f"energies {self.energy:.3g} eV/atom, forces on {forces} eV/A, virials {self.virial:.3g} eV/atom"


def left_open(config: FitConfig, groups: Iterable[Group]) -> frozenset[Group]:
    """Groups whose noise a resolved configuration leaves to the data."""

    def is_open(group: Group) -> bool:
        key = NOISE_OF_LABEL[group.label]
        own = config.config_type_noise.get(group.config_type)
        return key in (config.adapt or ()) and getattr(own, key, None) is None

    return frozenset(filter(is_open, groups))
