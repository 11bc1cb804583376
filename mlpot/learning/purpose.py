"""Purpose of a calculator's results in a script, inferred from the structures that it requests.

momenta                                            dynamics: the targets decide
one coordinate of an earlier structure moved       a force constant: from the difference of forces
one component of the strain changed                an elastic constant: from the difference of stresses
several components of the strain changed           an equation of state or a cell filter: the stress is used
a small step from an earlier structure             an optimiser: forces below their expected error do not locate the minimum
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from ..models.prediction import Prediction
from ..structures import stress_matrix
from .distances import deformation_between
from .policy import Use

Purpose = Literal["dynamics", "differences", "auto"]
PURPOSES: tuple[Purpose, ...] = ("dynamics", "differences", "auto")

SMALL = 0.1
"""Largest displacement (A) of one coordinate that counts as a finite difference; such tools use 0.01 to 0.05 A."""
STEP = 0.3
"""Largest displacement (A) of an atom that counts as a step of an optimiser; ASE's allow 0.2 A."""
SMALL_STRAIN, STEP_STRAIN = 0.03, 0.15
"""The same for strains."""
SAME = 1e-7
"""Differences of positions (A) and strains below this are round-off."""
PRECISION = 0.05
"""Largest expected error of a difference of forces or stresses, relative to that difference. This is also the relative error of a
force constant or elastic constant; a frequency has half of it, 2.5 %."""
EXACT = 0.5
"""Fraction of the targets of energy and stress that an expected error may reach where differences matter: a curve of energies or
pressures is judged by its worst point. Pressures of Ag, Ni and Cu at 15 volumes were off by up to 0.20, 0.30 and 0.05 GPa with 12, 14
and 14 labels; with 1 by 0.62, 0.54 and 0.29 GPa with 11 each; with 1/3 nearly all points are labelled."""
NO_FORCE, NO_STRESS = 1e-6, 1e-9
"""Forces (eV/A) and stresses (eV/A^3) below this are zero by symmetry, so errors are not compared with them."""
REMEMBERED = 4
"""Number of structures that are kept: the one that others are derived from, and the most recent ones."""


@dataclass(frozen=True)
class RequestedStructure:
    """A structure that was requested, and its results.

    Parameters
    ----------
    atoms : ase.Atoms
    forces : (n_atoms, 3) array
        eV/A.
    stress : array or None
        As ASE gives it, eV/A^3.
    """

    atoms: Atoms
    forces: np.ndarray
    stress: np.ndarray | None


Kind = Literal["same", "displaced", "strained in one component", "strained", "near"]


class RecentStructures:
    """The structures that were requested last.

    The structure that others are derived from is kept, however many these are.
    """

    def __init__(self) -> None:
        self._asked: list[RequestedStructure] = []
        self._kind: Kind | None = None

    def base_of(self, atoms: Atoms) -> tuple[Kind | None, RequestedStructure | None]:
        """The structure that this one is derived from, and how: the most specific relation to any structure that is kept."""
        order: list[Kind] = ["same", "displaced", "strained in one component", "strained", "near"]
        found: list[tuple[int, RequestedStructure]] = []
        for asked in self._asked:
            kind = relation(asked.atoms, atoms, 2 if self._kind == "displaced" else 1)
            if kind is not None:
                found.append((order.index(kind), asked))
        if not found:
            return None, None
        rank, base = min(found, key=lambda item: item[0])
        return order[rank], base

    def note(self, asked: RequestedStructure) -> None:
        """Keep a structure, and the one that it is derived from."""
        self._kind, base = self.base_of(asked.atoms)
        others = [known for known in self._asked if known is not base]
        if self._kind == "same":
            base = None
        self._asked = [*([] if base is None else [base]), asked, *others][:REMEMBERED]


def relation(base: Atoms, atoms: Atoms, n_coordinates: int = 1) -> Kind | None:
    """Relation of a structure to another, or None; up to `n_coordinates` may differ in a displaced one."""
    if not np.array_equal(base.numbers, atoms.numbers) or not np.array_equal(base.pbc, atoms.pbc):
        return None
    if not np.array_equal(base.cell.array, atoms.cell.array):
        return _strained(base, atoms) if base.cell.rank == atoms.cell.rank > 0 else None
    moved = np.abs(atoms.positions - base.positions)
    coordinates = int((moved > SAME).sum())
    if coordinates == 0:
        return "same"
    if coordinates <= n_coordinates and len(atoms) > 1 and moved.max() <= SMALL:
        return "displaced"
    return "near" if np.sqrt((moved**2).sum(axis=1).max()) <= STEP else None


def _strained(base: Atoms, atoms: Atoms) -> Kind | None:
    deformation = deformation_between(base, atoms)
    strain = (deformation + deformation.T) / 2 - np.eye(3)
    largest = np.abs(strain).max()
    moved = np.abs(atoms.positions - base.positions @ deformation).max(initial=0.0)
    if largest > STEP_STRAIN or moved > STEP:
        return None
    if moved > np.sqrt(SAME):
        return "near"
    single = int((np.abs(strain[np.triu_indices(3)]) > max(SAME, largest**2)).sum()) == 1
    return "strained in one component" if single and largest <= SMALL_STRAIN else "strained"


def use_of(
    purpose: Purpose, memory: RecentStructures, atoms: Atoms, prediction: Prediction | None, wants_stress: bool
) -> tuple[Use, bool]:
    """Purpose of the results, and whether it is dynamics.

    Parameters
    ----------
    purpose : str
        Given by the user.
    memory : RecentStructures
    atoms : ase.Atoms
    prediction : Prediction or None
    wants_stress : bool
        Whether the stress has been requested before.
    """
    if purpose == "dynamics" or (purpose == "auto" and atoms.has("momenta") and np.any(atoms.get_momenta())):
        return Use(stress=wants_stress), True
    kind, base = memory.base_of(atoms)
    stress = wants_stress or kind in ("strained", "strained in one component")
    if prediction is None:
        return Use(stress=stress, early=False), False
    if purpose == "differences" or kind in ("displaced", "strained in one component"):
        return _differences(kind, base, prediction, stress), False
    if kind in ("near", "strained"):
        force = _largest(_free(prediction.forces, atoms), NO_FORCE)
        tension = _largest(prediction.stress, NO_STRESS) if stress else np.inf
        return Use(stress, False, force, tension), False
    return Use(stress=stress, early=False), False


def _differences(kind: Kind | None, base: RequestedStructure | None, prediction: Prediction, stress: bool) -> Use:
    """Limits that make differences precise, relative to the differences from the base structure, or without one to the forces."""
    forces, tension = prediction.forces, prediction.stress
    if base is not None and kind != "same":
        forces = forces - base.forces
        if tension is not None and base.stress is not None:
            tension = tension - stress_matrix(base.stress)
    of_stress = kind == "strained in one component" or (stress and kind != "displaced")
    return Use(
        stress, False,
        PRECISION * _largest(forces, NO_FORCE) if kind != "strained in one component" else np.inf,
        PRECISION * _largest(tension, NO_STRESS) if of_stress else np.inf,
        look=0.0,
        share=EXACT,
    )  # fmt: skip


def _largest(values: np.ndarray | None, zero: float) -> float:
    """Largest component; infinite if all are zero by symmetry."""
    largest = 0.0 if values is None else float(np.abs(values).max(initial=0.0))
    return largest if largest > zero else np.inf


def _free(forces: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Forces that an optimiser uses: after the constraints."""
    free = forces.copy()
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, free)
    return free
