"""How far a structure is from labelled ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

NEIGHBOUR = 2.5
"""A: a typical distance between neighbours; a strain displaces them by as much as it times this."""
WRAPPED = 1.0
"""A: larger displacements may be those of an atom that was put back into the cell."""


def distance(atoms: Atoms, other: Atoms) -> float:
    """Largest displacement of an atom between two structures, A; infinite for other atoms, or in another order.

    Rigid translations do not count. A change of the cell counts as the displacement of neighbours by the strain, and atoms that
    moved with the cell have not moved otherwise.
    """
    if not np.array_equal(atoms.numbers, other.numbers) or not np.array_equal(atoms.pbc, other.pbc):
        return np.inf
    before, strain = other.positions, 0.0
    if not np.array_equal(atoms.cell.array, other.cell.array):
        if atoms.cell.rank != other.cell.rank:
            return np.inf
        deformation = deformation_between(other, atoms)
        before = before @ deformation
        strain = float(np.abs(np.linalg.eigvalsh((deformation + deformation.T) / 2 - np.eye(3))).max())
    moved = atoms.positions - before
    moved -= moved.mean(axis=0)
    if atoms.pbc.any() and np.abs(moved).max(initial=0.0) > WRAPPED:
        moved = find_mic(atoms.positions - before, atoms.cell, atoms.pbc)[0]
        moved -= moved.mean(axis=0)
    return float(np.sqrt((moved**2).sum(axis=1).max(initial=0.0))) + NEIGHBOUR * strain


def deformation_between(before: Atoms, now: Atoms) -> np.ndarray:
    """The matrix (3, 3) that multiplies row vectors of one cell from the right to give those of the other."""
    return np.linalg.solve(before.cell.complete().array, now.cell.complete().array)


def nearest(atoms: Atoms, others: Iterable[Atoms]) -> float:
    """Distance to the nearest of these structures, A; infinite without any."""
    return min((distance(atoms, other) for other in others), default=np.inf)
