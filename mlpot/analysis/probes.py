"""Structures on which criteria are measured: of given elements, at distances that suit a cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

NEAREST = 0.6
"""Shortest distance in random clusters, in units of `bond`."""

BOX = (60.0, 60.0, 60.0)
"""Cell of molecules, not periodic: some descriptors that are made for crystals refuse structures without one."""


def bond(species: Sequence[int], reach: float) -> float:
    """A typical distance of neighbours, A: of touching atoms, at most half of the cutoff."""
    return float(min(2.2 * np.mean(covalent_radii[list(species)]), 0.5 * reach))


def spacing(species: Sequence[int], reach: float) -> float:
    """A distance in crystals with which an atom has at most some 65 neighbours within the cutoff, A."""
    return max(bond(species, reach), 0.4 * reach)


def cluster(species: Sequence[int], reach: float, n_neighbours: int, rng: np.random.Generator) -> Atoms:
    """An atom at the origin with neighbours at random places inside of the cutoff; elements at random, all occur if there is room."""
    near = bond(species, reach)
    far = max(0.85 * reach, 1.3 * near)
    places = [np.zeros(3)]
    gap = NEAREST * near
    while len(places) <= n_neighbours:
        direction = rng.standard_normal(3)
        new = direction / np.linalg.norm(direction) * rng.uniform(0.8 * near, far)
        if min(np.linalg.norm(new - place) for place in places) > gap:
            places.append(new)
        else:
            gap *= 0.999  # a crowded cutoff takes closer neighbours
    return Atoms(elements(species, len(places), rng), positions=places, cell=BOX)


def elements(species: Sequence[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """Atomic numbers (n,) in random order, every element about equally often."""
    return rng.permutation(np.resize(list(species), n))


def crystal(species: Sequence[int], reach: float, repeat: tuple[int, int, int], rng: np.random.Generator) -> Atoms:
    """A rattled simple cubic crystal of mixed elements in a cell that is slightly triclinic."""
    a = spacing(species, reach)
    atoms = Atoms("X", cell=a * np.eye(3), pbc=True) * repeat
    atoms.numbers = elements(species, len(atoms), rng)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.03, 0], [0, 1.02, 0.05], [0.01, 0, 0.98]]), scale_atoms=True)
    atoms.positions += 0.06 * a * rng.uniform(-1, 1, atoms.positions.shape)
    return atoms


def classes(species: Sequence[int], reach: float, rng: np.random.Generator) -> dict[str, Atoms]:
    """A molecule, a crystal, a slab, a wire, and a crystal of one atom whose cell is shorter than the cutoff."""
    slab, wire = crystal(species, reach, (2, 2, 2), rng), crystal(species, reach, (2, 2, 2), rng)
    slab.pbc = (True, True, False)
    wire.pbc = (True, False, False)
    slab.positions[:, 2] += 1.0
    single = Atoms(
        [species[0]], cell=spacing(species, reach) * np.array([[1, 0, 0], [0.4, 1.1, 0], [0.2, 0.3, 0.9]]), pbc=True
    )
    return {
        "molecule": cluster(species, reach, 8, rng),
        "crystal": crystal(species, reach, (2, 2, 2), rng),
        "slab": slab,
        "wire": wire,
        "one-atom cell": single,
    }


def around(centre: int, neighbours: Sequence[int], positions: np.ndarray) -> Atoms:
    """An atom at the origin and its neighbours at positions (n, 3), A."""
    return Atoms([centre, *neighbours], positions=np.vstack([np.zeros(3), positions]), cell=BOX)


def on_circle(centre: int, ring: int, radius: float, turns: Sequence[float]) -> Atoms:
    """An atom and its neighbours on a circle around it, at parts of a full turn."""
    angles = 2 * np.pi * np.array(turns)
    return around(
        centre, [ring] * len(angles), radius * np.array([np.cos(angles), np.sin(angles), np.zeros(len(angles))]).T
    )


def homometric(centre: int, ring: int, radius: float, part: float) -> tuple[Atoms, Atoms]:
    """A pair of environments with equal distances and angles that are not the same, for every part of a turn between 0 and 1/4.

    The continuous family of four points on a circle of A. L. Patterson, Phys. Rev. 65, 195 (1944), doi:10.1103/PhysRev.65.195;
    part = 1/8 is the pair of `mlpot.checks.homometric_pair`.
    """
    first = on_circle(centre, ring, radius, (0, part, part + 0.25, 0.5))
    return first, on_circle(centre, ring, radius, (0, part, 0.25, part + 0.5))


def random_structures(species: Sequence[int], n: int = 12, reach: float = 4.0, seed: int = 0) -> list[Atoms]:
    """Crystals and clusters (n of each) on which a descriptor may choose its features where there is no data."""
    rng = np.random.default_rng(seed)
    crystals = [crystal(species, reach, (2, 2, 2), rng) for _ in range(n)]
    return crystals + [cluster(species, reach, 8, rng) for _ in range(n)]
