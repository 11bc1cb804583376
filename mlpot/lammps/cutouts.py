"""Small periodic blocks out of structures that are too large for a label.

A block has edges along the cell vectors. Along a periodic direction its length is the one, of those allowed, at which the structure
fits best onto itself: a crystal is cut at multiples of its period, and its atoms keep their neighbours across the faces. Free
directions, such as the normal of a surface, are not cut: that would make new surfaces. In a disordered structure atoms at the faces
get neighbours that they did not have; atoms that come too close there are left out. A block is labelled as a structure of its own,
consistent in energy, forces and stress, so all of its label is learned.

Periodic structures made of the neighbourhoods where a potential extrapolates: Hodapp and Shapeev, doi:10.1088/2632-2153/aba373.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

LONGEST = 1.4
"""Longest edge of a block, in units of the wanted one: enough to meet a period of most crystals."""
TRIALS = 60
"""Lengths that are compared."""
FACE = 3.0
"""Thickness of the layers at two opposite faces that are compared, A: nearest neighbours."""
SHIFT, THERMAL = 1.5, 0.4
"""Shifts of a block that are tried, and the distance between an atom and a face that matters, A."""
CLOSEST = 0.9
"""Distance across a face, in units of the shortest distance in the structure, below which one of the atoms is left out."""


def block_around(atoms: Atoms, centre: int, edge: float) -> tuple[Atoms, np.ndarray]:
    """A block around an atom.

    Parameters
    ----------
    atoms : ase.Atoms
        With a cell if it is periodic in any direction.
    centre : int
        Index of the atom in the middle.
    edge : float
        Wanted distance between opposite faces, A; along a periodic direction up to `LONGEST` times as much.

    Returns
    -------
    block : ase.Atoms
        Periodic as `atoms`; without calculator. The whole structure if it is not larger than a block.
    indices : (n,) int array
        Its atoms among all.
    """
    cell = atoms.cell.array.copy()
    if not atoms.pbc.any():
        return atoms.copy(), np.arange(len(atoms))
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    scaled = atoms.cell.scaled_positions(atoms.positions)
    scaled -= scaled[centre]
    kept, lengths = np.ones(len(atoms), bool), np.ones(3)
    for axis in np.flatnonzero(atoms.pbc & (heights > LONGEST * edge)):
        scaled[:, axis] -= np.floor(scaled[:, axis] + 0.5)
        trials = np.linspace(edge, LONGEST * edge, TRIALS) / heights[axis]
        lengths[axis] = _period(scaled[kept], cell, int(axis), trials, heights[axis])
        low = _face(scaled[kept][:, axis], lengths[axis], heights[axis])
        kept &= (scaled[:, axis] >= low) & (scaled[:, axis] < low + lengths[axis])
    indices = np.flatnonzero(kept)
    block = Atoms(atoms.numbers[indices], scaled[indices] @ cell, cell=cell * lengths[:, None], pbc=atoms.pbc)
    whole = _without_overlaps(block, atoms)
    return block[whole], indices[whole]


def _period(scaled: np.ndarray, cell: np.ndarray, axis: int, lengths: np.ndarray, height: float) -> float:
    """The length at which the structure fits best onto itself: the layer before the upper face, moved back by the length, is compared
    with the layer before the lower face."""
    width, misfits = FACE / height, []
    for length in lengths:
        upper = scaled[(scaled[:, axis] < length / 2) & (scaled[:, axis] >= length / 2 - width)]
        lower = scaled[(scaled[:, axis] < -length / 2) & (scaled[:, axis] >= -length / 2 - width)]
        moved = upper.copy()
        moved[:, axis] -= length
        misfits.append(_misfit(moved @ cell, lower @ cell))
    return float(lengths[int(np.argmin(misfits))])


def _face(places: np.ndarray, length: float, height: float) -> float:
    """Best position of the lower of two faces: near -length / 2, with as few atoms as possible near both, since thermal motion would
    put some of a plane of atoms inside and some outside."""
    lows = (np.linspace(-SHIFT, SHIFT, TRIALS) / height) - length / 2
    near = [np.exp(-(((places[:, None] - (lows + at)) * height / THERMAL) ** 2)).sum(axis=0) for at in (0.0, length)]
    return float(lows[int(np.argmin(near[0] + near[1]))])


def _misfit(positions: np.ndarray, others: np.ndarray) -> float:
    """Root mean square distance (A) to the nearest of the others, both ways; infinite where one of them is empty."""
    if not len(positions) or not len(others):
        return np.inf
    there, back = cKDTree(others).query(positions)[0], cKDTree(positions).query(others)[0]
    return float(np.sqrt(np.mean(np.concatenate([there, back]) ** 2)))


def _without_overlaps(block: Atoms, atoms: Atoms) -> np.ndarray:
    """Indices of the atoms of a block that stay: of two that are too close the one farther from the middle goes."""
    shortest = cKDTree(atoms.positions).query(atoms.positions, k=2)[0][:, 1].min()
    distances = block.get_all_distances(mic=True)
    order = np.argsort(np.linalg.norm(block.positions, axis=1), kind="stable")
    stays = np.zeros(len(block), bool)
    for k in order:
        stays[k] = not np.any(distances[k, stays] < CLOSEST * shortest)
    return np.flatnonzero(stays)
