"""Noises of labels: what a configuration says, and what a fit has found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .design_matrix import Group
from .posterior import Posterior
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
    sizes : mapping of int to float
        Root mean square of the labelled forces themselves, eV/A by atomic number: what an error is when nothing is known.
    """

    energy: float = 0.0
    virial: float = 0.0
    forces: Mapping[int, float] = field(default_factory=dict)
    sizes: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, posterior: Posterior) -> Noises:
        """Of the groups of a fit; where only special config_types have a kind of label, the largest of theirs."""
        found = posterior.noises

        def largest(label: str, number: int) -> float:
            own = {g: noise for g, noise in found.items() if (g.label, g.number) == (label, number)}
            general = [noise for g, noise in own.items() if not g.config_type]
            return float(max(general or own.values(), default=0.0))

        numbers = sorted({g.number for g in found if g.label == "forces"})
        sizes = {}
        for z in numbers:
            own = [equations for g, equations in posterior.groups.items() if (g.label, g.number) == ("forces", z)]
            sizes[z] = float(np.sqrt(sum(e.square for e in own) / max(sum(e.n_rows for e in own), 1)))
        forces = {z: largest("forces", z) for z in numbers}
        return cls(largest("energy", 0), largest("virial", 0), forces, sizes)

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


def left_open(config: FitConfig, groups: Iterable[Group]) -> frozenset[Group]:
    """Groups whose noise a resolved configuration leaves to the data."""

    def is_open(group: Group) -> bool:
        key = NOISE_OF_LABEL[group.label]
        own = config.config_type_noise.get(group.config_type)
        return key in (config.adapt or ()) and getattr(own, key, None) is None

    return frozenset(filter(is_open, groups))
