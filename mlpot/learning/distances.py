"""Distance of a structure from the labelled ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

NEIGHBOUR = 2.5
"""Typical distance between neighbours, A: a strain displaces neighbours by the strain times this."""
WRAPPED = 1.0
"""Displacement (A) above which an atom may have been wrapped back into the cell."""


def distance(atoms: Atoms, other: Atoms) -> float:
    """Largest displacement of an atom between two structures, A; infinite if the atoms or their order differ.

    Rigid translations do not count. A change of the cell counts as the displacement of neighbours by the strain; the displacements
    of atoms are measured relative to the deformed cell.
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
    """The matrix (3, 3) by which the row vectors of one cell are multiplied from the right to get the other cell."""
    return np.linalg.solve(before.cell.complete().array, now.cell.complete().array)


def nearest(atoms: Atoms, others: Iterable[Atoms]) -> float:
    """Distance to the nearest of these structures, A; infinite without any."""
    return min((distance(atoms, other) for other in others), default=np.inf)
