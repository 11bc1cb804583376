"""Invariance: what must not change the features of an atom, and how much it does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from .probes import classes
from .rows import Row, relative
from .subject import Subject

LIMIT = 1e-8
"""Relative change of features by rounding, with three orders of magnitude to spare."""
N_ROTATIONS = 20
"""For each class of structures."""
Changed = tuple[Atoms, np.ndarray]
"""A structure, and for each of its atoms the index of the atom with the same environment in the original."""


def invariance(subject: Subject, rng: np.random.Generator) -> list[Row]:
    """A row for rotations, the inversion, translations, orders of atoms, and choices of the cell, the worst of five structures."""
    kinds: dict[str, tuple[Callable[[Atoms, np.random.Generator], Changed], int]] = {
        "rotation": (_rotated, N_ROTATIONS),
        "inversion": (_inverted, 1),
        "translation": (_translated, 4),
        "order of atoms": (_permuted, 4),
        "choice of the cell": (_other_cell, 4),
    }
    structures = classes(subject.species, subject.reach, rng)
    own = {name: subject.compute(atoms) for name, atoms in structures.items()}
    rows = []
    for kind, (change, n) in kinds.items():
        worst = {}
        for name, atoms in structures.items():
            if kind == "choice of the cell" and not atoms.pbc.any():
                continue
            worst[name] = max(_change(subject, own[name], *change(atoms, rng)) for _ in range(n))
        where = max(worst, key=lambda name: worst[name])
        rows.append(Row("invariance", kind, worst[where], "relative", LIMIT, f"largest in: {where}"))
    return rows


def _change(subject: Subject, own: np.ndarray, changed: Atoms, origin: np.ndarray) -> float:
    found = subject.compute(changed)
    per_atom = len(found) == len(changed) and len(own) == int(origin.max()) + 1
    expected = own[origin] if per_atom else own
    n = min(found.shape[1], expected.shape[1])  # a varying length has a row of its own
    return relative(found[:, :n] - expected[:, :n], expected)


def _same(atoms: Atoms) -> np.ndarray:
    return np.arange(len(atoms))


def _turned(atoms: Atoms, matrix: np.ndarray) -> Changed:
    """Turned around the middle, so that it stays where it is."""
    moved, middle = atoms.copy(), atoms.positions.mean(axis=0)
    moved.set_cell(atoms.cell.array @ matrix.T)
    moved.positions = middle + (atoms.positions - middle) @ matrix.T
    return moved, _same(atoms)


def _rotated(atoms: Atoms, rng: np.random.Generator) -> Changed:
    return _turned(atoms, Rotation.random(rng=rng).as_matrix())


def _inverted(atoms: Atoms, rng: np.random.Generator) -> Changed:
    """The inversion; with rotations, it makes all reflections."""
    return _turned(atoms, -np.eye(3))


def _translated(atoms: Atoms, rng: np.random.Generator) -> Changed:
    """Moved as a whole, and single atoms by vectors of the lattice."""
    moved = atoms.copy()
    steps = rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc
    moved.positions = atoms.positions + rng.uniform(-5, 5, 3) + steps @ atoms.cell.array
    return moved, _same(atoms)


def _permuted(atoms: Atoms, rng: np.random.Generator) -> Changed:
    order = rng.permutation(len(atoms))
    return atoms[order], order


def _other_cell(atoms: Atoms, rng: np.random.Generator) -> Changed:
    """The same crystal by a supercell whose vectors are sheared: sums of the old ones along periodic directions."""
    periodic = np.flatnonzero(atoms.pbc)
    repeat = np.ones(3, int)
    repeat[rng.choice(periodic)] = 2
    moved = atoms.repeat(tuple(repeat.tolist()))
    cell = moved.cell.array
    for a, b in pairwise(rng.permutation(periodic)):
        cell[a] = cell[a] + rng.choice([-1, 1]) * cell[b]
    moved.set_cell(cell)
    return moved, np.tile(_same(atoms), int(repeat.prod()))
