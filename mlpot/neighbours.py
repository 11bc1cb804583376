"""Neighbour pairs: search, and updates during a simulation. The sign of forces is defined only here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from ._ext.pair_gradients import add_forces, add_forces_single, add_virial, add_virials_single
from ._ext.pair_list import find_candidates, largest_displacement, pairs_within
from .errors import StructureError, counted
from .structures import triple_product

SHORTEST_DISTANCE = 0.1
"""Atoms nearer than this (A) are an error in the structure, not a close encounter."""
DEFAULT_SKIN = 0.7
"""Verlet skin in A; 0.5 to 0.7 is best in solids and liquids alike for cutoffs from 4 to 6.5 A."""
MOST_NEIGHBOURS = 5000
"""Largest average number of pairs per atom: twice the number for diamond within 15 A. Atoms with more have collapsed, and their pairs
would exhaust memory before the shortest distance is checked."""
FARTHEST = 1e8
"""Coordinates beyond this (A) have too few digits left for distances."""
ROUNDING = 1e-6
"""Reserve of the Verlet skin (A) against rounding of coordinates up to `FARTHEST`."""
UNDEFORMED = np.eye(3)


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
    elements : (n_atoms,) int array or None
        Actual atomic numbers if `numbers` replaces some elements by others; None: `numbers` are the actual ones.
    positions, cell, pbc : (n_atoms, 3), (3, 3), (3,) arrays or None
        The structure whose pairs they are, A; None for pairs with vectors of their own.
    """

    numbers: np.ndarray
    i: np.ndarray
    j: np.ndarray
    shifts: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    offsets: np.ndarray
    elements: np.ndarray | None = None
    positions: np.ndarray | None = None
    cell: np.ndarray | None = None
    pbc: np.ndarray | None = None

    @property
    def atoms(self) -> Atoms:
        """The structure, for models that work on whole structures; StructureError for pairs with vectors of their own."""
        if self.positions is None:
            raise StructureError("these pairs do not belong to a structure; use pairs from find_pairs")
        numbers = self.numbers if self.elements is None else self.elements
        return Atoms(numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_pairs(self) -> int:
        return len(self.i)

    def forces(self, pair_gradients: np.ndarray) -> np.ndarray:
        """-dE/dr (n_atoms, 3) or (n_atoms, 3, k) of dE/dvectors (n_pairs, 3) or (n_pairs, 3, k), eV/A."""
        columns = pair_gradients.shape[2:]
        forces = np.zeros((self.n_atoms, 3, math.prod(columns)))
        if self.n_pairs:
            gradients = np.ascontiguousarray(pair_gradients).reshape(self.n_pairs, 3, forces.shape[2])
            add = add_forces_single if gradients.dtype == np.float32 else add_forces
            add(self.i, self.j, gradients, forces)
        return forces.reshape(self.n_atoms, 3, *columns)

    def virial(self, pair_gradients: np.ndarray) -> np.ndarray:
        """-dE/dstrain, symmetrised, eV, (3, 3[, k]) of dE/dvectors (n_pairs, 3) or (n_pairs, 3, k)."""
        columns = pair_gradients.shape[2:]
        virial = np.zeros((9, math.prod(columns)))
        if self.n_pairs:
            gradients = np.ascontiguousarray(pair_gradients).reshape(self.n_pairs, 3, virial.shape[1])
            add = add_virials_single if gradients.dtype == np.float32 else add_virial
            add(self.vectors, gradients, virial)
        return virial.reshape(3, 3, *columns)

    def virials(self, pair_gradients: np.ndarray) -> np.ndarray:
        """-dE_i/dstrain of every local energy, symmetrised, eV, (n_atoms, 3, 3) of dE/dvectors (n_pairs, 3); they add up to
        `virial`."""
        each = self.vectors[:, :, None] * pair_gradients[:, None, :]
        virials = np.zeros((self.n_atoms, 3, 3))
        np.subtract.at(virials, self.i, 0.5 * (each + each.transpose(0, 2, 1)))
        return virials

    def within(self, cutoff: float) -> Pairs:
        """The pairs within a shorter cutoff (A), bitwise the same as from `find_pairs`."""
        kept = self.distances < _checked_cutoff(cutoff)
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        found = (self.i[kept], self.j[kept], self.shifts[kept], self.vectors[kept], self.distances[kept])
        return Pairs(self.numbers, *found, offsets, self.elements, self.positions, self.cell, self.pbc)

    def with_vectors(self, vectors: np.ndarray) -> Pairs:
        """The same pairs with other vectors (n_pairs, 3), for numerical derivatives."""
        vectors = np.ascontiguousarray(vectors)
        distances = np.linalg.norm(vectors, axis=1)
        return replace(self, vectors=vectors, distances=distances, positions=None, cell=None, pbc=None)

    def counting_as(self, numbers: np.ndarray) -> Pairs:
        """The same pairs with atoms treated as other elements, atomic numbers (n_atoms,)."""
        return replace(self, numbers=numbers, elements=self.numbers)


def find_pairs(atoms: Atoms, cutoff: float) -> Pairs:
    """Find all pairs within `cutoff` (A), at a cost proportional to the number of atoms.

    Raises
    ------
    StructureError
        Empty structure, positions or cell that are not finite, no volume along periodic directions, atoms
        closer than `SHORTEST_DISTANCE`, more than `MOST_NEIGHBOURS` neighbours of an atom on average, or a cutoff that is not
        a positive number.
    """
    _check_structure(atoms)
    return _pairs(atoms, _candidates(atoms, _checked_cutoff(cutoff)), cutoff)


class NeighbourList:
    """Pairs of a moving structure: candidates within cutoff + skin are reused until atoms or cell have moved too far.

    `update` returns the same pairs as `find_pairs`, bit by bit.

    Parameters
    ----------
    cutoff, skin : float
        A; with skin = 0 the list is rebuilt each time.

    Attributes
    ----------
    n_updates, n_builds : int
        Number of updates, and number of searches for candidates.
    """

    def __init__(self, cutoff: float, skin: float = DEFAULT_SKIN):
        if not (np.isfinite(skin) and skin >= 0):
            raise StructureError(f"skin = {skin}: must be zero or a positive number of angstrom")
        self.cutoff, self.skin = _checked_cutoff(cutoff), float(skin)
        self.n_updates = self.n_builds = 0
        self._reference: Atoms | None = None
        self._candidates: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def update(self, atoms: Atoms) -> Pairs:
        """Pairs of the atoms as they are now; see `find_pairs` for errors."""
        _check_structure(atoms)
        candidates = self._candidates
        if candidates is None or not self.serves(atoms):
            candidates = self._candidates = _candidates(atoms, self.cutoff + self.skin)
            self._reference = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            self.n_builds += 1
        self.n_updates += 1
        return _pairs(atoms, candidates, self.cutoff)

    def serves(self, atoms: Atoms) -> bool:
        """Whether every pair nearer than the cutoff is among the candidates, so that `update` need not search again.

        Let F map the old periodic cell vectors to the present ones, and u = positions - positions0 F. A pair
        whose vector was d0 now has d = d0 F + u_j - u_i, so |d| >= s |d0| - 2 max|u - c| with s the smallest
        stretch of F and any constant c. Pairs that were beyond cutoff + skin are still beyond the cutoff if
        s (cutoff + skin) - 2 max|u - c| > cutoff.
        """
        old = self._reference
        if old is None or self.skin <= 0 or len(old) != len(atoms) or (old.pbc != atoms.pbc).any():
            return False
        deformation, stretch = UNDEFORMED, 1.0
        if (old.cell.array != atoms.cell.array).any():
            # non-periodic directions are unchanged: F = 1 + pinv(cell0) (cell - cell0) of the periodic rows
            before, after = old.cell.array[old.pbc], atoms.cell.array[old.pbc]
            deformation = UNDEFORMED + np.linalg.pinv(before) @ (after - before)
            stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
        moved = largest_displacement(old.positions, np.ascontiguousarray(atoms.positions), deformation)
        return stretch * (self.cutoff + self.skin) - 2 * moved > self.cutoff + ROUNDING


def complete_cell(atoms: Atoms) -> np.ndarray:
    """Cell vectors (3, 3) in A, with non-periodic directions replaced by unit normals to the others.

    Raises
    ------
    StructureError
        If the periodic vectors are zero or linearly dependent.
    """
    cell, periodic = atoms.cell.array, atoms.pbc
    if periodic.all():
        spanned = abs(triple_product(cell))
    else:
        # orthonormal basis of the null space of the periodic vectors, independent of unused vectors
        _, _, directions = np.linalg.svd(cell[periodic] if periodic.any() else np.zeros((1, 3)))
        cell = cell.copy()
        cell[~periodic] = directions[int(periodic.sum()) :]
        spanned = abs(triple_product(cell))
    scale = math.prod(math.hypot(*vector) for vector in cell.tolist())
    if not spanned > 1e-6 * scale > 0:
        raise StructureError(
            f"cell = {atoms.cell.array.tolist()} has no volume along its periodic directions, "
            f"pbc = {periodic.tolist()}; correct the cell or switch pbc off"
        )
    return cell


def _checked_cutoff(cutoff: float) -> float:
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise StructureError(f"cutoff = {cutoff}: must be a positive number of angstrom")
    return float(cutoff)


def _check_structure(atoms: Atoms) -> None:
    if not len(atoms):
        raise StructureError("the structure is empty; give at least one atom")
    if not np.abs(atoms.positions).max() < FARTHEST:  # NaN fails too
        bad = np.flatnonzero(~(np.abs(atoms.positions) < FARTHEST).all(axis=1))
        raise StructureError(
            f"positions of atom {bad[0]} are {atoms.positions[bad[0]]} A: not finite, or farther than "
            f"{FARTHEST:g} A from the origin; the run blew up before"
        )
    if not np.isfinite(atoms.cell.array).all():
        raise StructureError(f"cell = {atoms.cell.array.tolist()} is not finite")


def _candidates(atoms: Atoms, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, j and shifts of all pairs within `radius`, possibly including a few at exactly the radius."""
    cell, periodic = complete_cell(atoms), atoms.pbc.tolist()
    for vector, is_periodic in zip(cell.tolist(), periodic, strict=True):
        if is_periodic and math.hypot(*vector) < SHORTEST_DISTANCE:
            raise StructureError(
                f"cell vector {vector} is shorter than {SHORTEST_DISTANCE} A: atoms overlap their images; "
                "correct the cell or switch pbc off"
            )
    positions = np.ascontiguousarray(atoms.positions)
    try:
        candidates = find_candidates(positions, cell, tuple(periodic), radius, MOST_NEIGHBOURS)
    except OverflowError as error:
        raise StructureError(
            f"{error} within {radius:g} A of {counted(len(atoms), 'atom')} in a cell of lengths "
            f"{atoms.cell.lengths().round(3).tolist()} A: the atoms have collapsed, or the unit is not A; "
            "correct the cell, or shorten the cutoff"
        ) from error
    if candidates is None:
        raise StructureError(
            f"cell = {cell.tolist()}: atoms are more than 1e7 cells from the origin, or the cutoff of "
            f"{radius} A spans more than 30000 cells; correct the cell, wrap the atoms, or shorten the cutoff"
        )
    return candidates


def _pairs(atoms: Atoms, candidates: tuple[np.ndarray, np.ndarray, np.ndarray], cutoff: float) -> Pairs:
    positions = np.ascontiguousarray(atoms.positions)
    offsets, i, j, shifts, vectors, distances = pairs_within(positions, atoms.cell.array, *candidates, cutoff)
    if len(distances) and distances.min() < SHORTEST_DISTANCE:
        k = int(np.argmin(distances))
        raise StructureError(
            f"atoms {i[k]} and {j[k]} are {distances[k]:.3g} A apart: they overlap; correct the structure "
            "or shorten the time step"
        )
    numbers, structure = np.asarray(atoms.numbers, np.int32), (positions.copy(), atoms.cell.array.copy(), atoms.pbc.copy())
    return Pairs(numbers, i, j, shifts, vectors, distances, offsets, None, *structure)
