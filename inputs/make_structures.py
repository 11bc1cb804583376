"""Makes the structures that the inputs start from: python inputs/make_structures.py"""

from pathlib import Path

import ase.io
from ase.build import bulk, make_supercell

HERE = Path(__file__).parent


def main() -> None:
    """Silicon at its experimental lattice constant, slightly displaced.

    The cell of 32 atoms is body-centred: its shortest period is 9.4 A, where a stack of cubic cells of the same size has
    5.4 A, too short for labels that are calculated without k-points. That of 8 atoms is for labels with them.
    """
    cubic = bulk("Si", cubic=True)
    body_centred = make_supercell(cubic, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    for name, atoms in (("si8", cubic.copy()), ("si32", body_centred), ("si64", cubic.repeat(2))):
        atoms.rattle(0.02, seed=1)
        ase.io.write(HERE / f"{name}.xyz", atoms)


if __name__ == "__main__":
    main()
