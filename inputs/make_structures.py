"""Makes the structures that the inputs start from: python inputs/make_structures.py"""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell, molecule

HERE = Path(__file__).parent
WATER_VOLUME = 29.9
"""Of a molecule in the liquid, A^3."""
VACUUM = 30.0
"""Edge of the box of a cluster, A."""


def water(n_side: int) -> Atoms:
    """n_side^3 molecules on a cubic lattice at the density of the liquid, turned at random."""
    rng, side = np.random.default_rng(0), WATER_VOLUME ** (1 / 3)
    atoms = Atoms(cell=3 * [n_side * side], pbc=True)
    for place in np.ndindex(n_side, n_side, n_side):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate((np.array(place) + 0.5) * side - one.get_center_of_mass())
        atoms += one
    return atoms


def main() -> None:
    """Water, periodic and as a cluster; silicon at its experimental lattice constant, slightly displaced.

    The cell of 32 atoms is body-centred: its shortest period is 9.4 A, where a stack of cubic cells of the same size has
    5.4 A, too short for labels that are calculated without k-points. That of 8 atoms is for labels with them.
    """
    cubic = bulk("Si", cubic=True)
    body_centred = make_supercell(cubic, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    for name, atoms in (("si8", cubic.copy()), ("si32", body_centred), ("si64", cubic.repeat(2))):
        atoms.rattle(0.02, seed=1)
        ase.io.write(HERE / f"{name}.xyz", atoms)
    for file in ("water8.xyz", "ipi/water8.xyz"):  # inputs for i-PI are run in a copy of their folder
        ase.io.write(HERE / file, water(2))
    cluster = water(2)
    cluster.set_cell(3 * [VACUUM])
    cluster.center()
    cluster.pbc = False
    ase.io.write(HERE / "ipi/cluster8.xyz", cluster)


if __name__ == "__main__":
    main()
