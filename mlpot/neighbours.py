"""Pairs of neighbours: found, kept through a simulation, and the only place that knows the sign of a force or a virial."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ._ext.pair_list import add_forces, add_virial, find_candidates, pairs_within
from .errors import StructureError

SHORTEST_DISTANCE = 0.1
"""Atoms nearer than this (A) are an error in the structure, not a close encounter."""
DEFAULT_SKIN = 0.7
"""Verlet skin in A: a rebuild every ten to twenty steps against a third more candidates (benchmarks/neighbours.py)."""
CROWDED_BIN = 30
"""More atoms than this in a bin as wide as the cutoff, and halving the bins pays."""


@dataclass(frozen=True)
class Pairs:
    """Directed pairs i -> j of a structure, full list, sorted by centre, then by (j, shift).

    Parameters
    ----------
    numbers : (n_atoms,) int array
        Atomic numbers.
    i, j : (n_pairs,) int32 arrays
        Centre and neighbour.
    shifts : (n_pairs, 3) int32 array
        Cells between them: vectors = positions[j] - positions[i] + shifts @ cell.
    vectors, distances : (n_pairs, 3), (n_pairs,) arrays
        A.
    offsets : (n_atoms + 1,) int64 array
        Pairs of atom a are offsets[a]:offsets[a + 1].
    """

    numbers: np.ndarray
    i: np.ndarray
    j: np.ndarray
    shifts: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    offsets: np.ndarray

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_pairs(self) -> int:
        return len(self.i)

    def forces(self, pair_gradients: np.ndarray) -> np.ndarray:
        """-dE/dr, (n_atoms, 3) or (n_atoms, 3, k), from dE/dvectors (n_pairs, 3) or (n_pairs, 3, k), eV/A."""
        columns = pair_gradients.shape[2:]
        forces = np.zeros((self.n_atoms, 3, int(np.prod(columns, dtype=int))))
        if self.n_pairs:
            gradients = np.ascontiguousarray(pair_gradients).reshape(self.n_pairs, 3, forces.shape[2])
            add_forces(self.i, self.j, gradients, forces)
        return forces.reshape(self.n_atoms, 3, *columns)

    def virial(self, pair_gradients: np.ndarray) -> np.ndarray:
        """-dE/dstrain, symmetrised, (3, 3) or (3, 3, k), from dE/dvectors (n_pairs, 3) or (n_pairs, 3, k), eV."""
        columns = pair_gradients.shape[2:]
        virial = np.zeros((9, int(np.prod(columns, dtype=int))))
        if self.n_pairs:
            gradients = np.ascontiguousarray(pair_gradients).reshape(self.n_pairs, 3, virial.shape[1])
            add_virial(self.vectors, gradients, virial)
        return virial.reshape(3, 3, *columns)

    def with_vectors(self, vectors: np.ndarray) -> Pairs:
        """The same pairs with other vectors (n_pairs, 3), for numerical derivatives."""
        vectors = np.ascontiguousarray(vectors)
        distances = np.linalg.norm(vectors, axis=1)
        return Pairs(self.numbers, self.i, self.j, self.shifts, vectors, distances, self.offsets)


def find_pairs(atoms: Atoms, cutoff: float) -> Pairs:
    """All pairs nearer than `cutoff` (A); its cost is proportional to the number of atoms.

    Raises
    ------
    StructureError
        Empty structure, positions or cell that are not finite, no volume along periodic directions, atoms closer than
        `SHORTEST_DISTANCE`, or a cutoff that is not a positive number.
    """
    _check_structure(atoms)
    return _pairs(atoms, _candidates(atoms, _checked_cutoff(cutoff)), cutoff)


class NeighbourList:
    """Pairs of a moving structure: candidates within cutoff + skin are kept until atoms or cell have moved too far.

    `update` returns exactly what `find_pairs` would, bit for bit.

    Parameters
    ----------
    cutoff, skin : float
        A; with skin = 0 the list is built anew each time.
    """

    def __init__(self, cutoff: float, skin: float = DEFAULT_SKIN):
        self.cutoff, self.skin = _checked_cutoff(cutoff), float(skin)
        self.n_builds = 0
        self._reference: Atoms | None = None
        self._candidates: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def update(self, atoms: Atoms) -> Pairs:
        """Pairs of the atoms as they are now; see `find_pairs` for errors."""
        _check_structure(atoms)
        if self._candidates is None or not self._still_valid(atoms):
            self._candidates = _candidates(atoms, self.cutoff + self.skin)
            self._reference = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            self.n_builds += 1
        return _pairs(atoms, self._candidates, self.cutoff)

    def _still_valid(self, atoms: Atoms) -> bool:
        """Whether every pair nearer than the cutoff is among the candidates.

        With the deformation F of the cell and u = positions - positions0 F, a pair is at least
        smallest stretch of F times its old distance, less 2 max|u|, apart: pairs that were beyond cutoff + skin are still
        beyond the cutoff.
        """
        old = self._reference
        if self.skin <= 0 or len(old) != len(atoms) or not np.array_equal(old.pbc, atoms.pbc):
            return False
        if not np.array_equal(old.numbers, atoms.numbers):
            return False
        if np.array_equal(old.cell.array, atoms.cell.array):
            moved, stretch = atoms.positions - old.positions, 1.0
        else:
            deformation = np.linalg.solve(complete_cell(old), complete_cell(atoms))
            moved = atoms.positions - old.positions @ deformation
            stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
        return stretch * (self.cutoff + self.skin) - 2 * float(np.sqrt((moved**2).sum(axis=1).max())) > self.cutoff


def complete_cell(atoms: Atoms) -> np.ndarray:
    """Cell vectors (3, 3) in A with those of non-periodic directions replaced by unit vectors normal to the others.

    Raises
    ------
    StructureError
        If the periodic vectors are zero or linearly dependent.
    """
    cell, periodic = atoms.cell.array, atoms.pbc
    if periodic.all():
        spanned = abs(_triple_product(cell))
    else:
        # the null space of the periodic vectors: orthonormal, whatever the unused vectors hold
        _, _, directions = np.linalg.svd(cell[periodic] if periodic.any() else np.zeros((1, 3)))
        cell = cell.copy()
        cell[~periodic] = directions[int(periodic.sum()) :]
        spanned = abs(_triple_product(cell))
    scale = math.prod(math.hypot(*vector) for vector in cell.tolist())
    if not spanned > 1e-8 * scale > 0:
        raise StructureError(
            f"cell = {atoms.cell.array.tolist()} has no volume along its periodic directions pbc = {periodic.tolist()}; "
            "correct the cell or switch pbc off"
        )
    return cell


def _triple_product(cell: np.ndarray) -> float:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell.tolist()
    return ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)


def _checked_cutoff(cutoff: float) -> float:
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise StructureError(f"cutoff = {cutoff}: must be a positive number of angstrom")
    return float(cutoff)


def _check_structure(atoms: Atoms) -> None:
    if not len(atoms):
        raise StructureError("the structure is empty; give at least one atom")
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise StructureError(
            f"positions of atom {bad[0]} are {atoms.positions[bad[0]]}: not finite; the run blew up before"
        )
    if not np.isfinite(atoms.cell.array).all():
        raise StructureError(f"cell = {atoms.cell.array.tolist()} is not finite")


def _candidates(atoms: Atoms, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, j and shifts of every pair nearer than `radius`, and perhaps a few at the radius itself."""
    cell = complete_cell(atoms)
    positions = np.ascontiguousarray(atoms.positions)
    return find_candidates(positions, cell, tuple(atoms.pbc.tolist()), radius, CROWDED_BIN)


def _pairs(atoms: Atoms, candidates: tuple[np.ndarray, np.ndarray, np.ndarray], cutoff: float) -> Pairs:
    positions = np.ascontiguousarray(atoms.positions)
    offsets, i, j, shifts, vectors, distances = pairs_within(positions, atoms.cell.array, *candidates, cutoff)
    if len(distances) and distances.min() < SHORTEST_DISTANCE:
        k = int(np.argmin(distances))
        raise StructureError(
            f"atoms {i[k]} and {j[k]} are {distances[k]:.3g} A apart: they overlap; correct the structure "
            "or shorten the time step"
        )
    return Pairs(np.asarray(atoms.numbers, np.int32), i, j, shifts, vectors, distances, offsets)
