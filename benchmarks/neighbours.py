"""Cost of a neighbour list within 5.4 A beside ase's and matscipy's, measured in the same process.

    python benchmarks/neighbours.py

Processor time, the median of five; a time means something only as a ratio within one run. ase's list takes
seconds beyond `LARGEST_FOR_ASE` atoms and is left out there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list

from mlpot.bench import cpu_seconds
from mlpot.neighbours import NeighbourList, find_pairs

CUTOFF = 5.4
QUANTITIES = "ijDdS"
LARGEST_FOR_ASE = 5000


def systems() -> list[tuple[str, Atoms]]:
    """Crystals from one cell to 32768 atoms, a slab, a cluster, the primitive cell."""
    found = []
    for copies in (1, 2, 3, 5, 8, 16):
        atoms = bulk("Si", cubic=True) * (copies, copies, copies)
        found.append(("crystal", atoms))
    slab = bulk("Si", cubic=True) * (5, 5, 2)
    slab.center(vacuum=10.0, axis=2)
    slab.pbc = [True, True, False]
    cluster = bulk("Si", cubic=True) * (4, 4, 4)
    cluster.pbc = False
    found += [("slab", slab), ("cluster", cluster), ("primitive cell", bulk("Si"))]
    for _, atoms in found:
        atoms.rattle(0.05, seed=0)
    return found


def ways(atoms: Atoms) -> dict[str, Callable[[], object]]:
    """Name -> action that gives indices, vectors, distances and shifts of all pairs."""
    kept = NeighbourList(CUTOFF)
    kept.update(atoms)
    found: dict[str, Callable[[], object]] = {
        "mlpot": partial(find_pairs, atoms, CUTOFF),
        "mlpot, kept with a skin": partial(kept.update, atoms),
    }
    if find_spec("matscipy"):
        from matscipy.neighbours import neighbour_list

        found["matscipy"] = partial(neighbour_list, QUANTITIES, atoms, CUTOFF)
    if len(atoms) <= LARGEST_FOR_ASE:
        structure = (atoms.pbc, atoms.cell.array, atoms.positions)
        found["ase"] = partial(primitive_neighbor_list, QUANTITIES, *structure, CUTOFF)
    return found


def run() -> list[dict[str, Any]]:
    """Rows with "name", "system", "n_atoms", "n_pairs", "us_per_atom", and "ratio" to the time of mlpot."""
    rows = []
    for system, atoms in systems():
        n_pairs, ours = find_pairs(atoms, CUTOFF).n_pairs, None
        for name, action in ways(atoms).items():
            us_per_atom = 1e6 * cpu_seconds(action) / len(atoms)
            ours = ours or us_per_atom
            rows.append(
                {
                    "name": name,
                    "system": system,
                    "n_atoms": len(atoms),
                    "n_pairs": n_pairs,
                    "us_per_atom": us_per_atom,
                    "ratio": us_per_atom / ours,
                }
            )
    return rows


def main() -> None:
    """Print the rows as a table."""
    print(f"{'system':16}{'atoms':>7}{'pairs':>9}  {'list':26}{'us/atom':>9}{'ratio':>8}")
    for row in run():
        print(
            f"{row['system']:16}{row['n_atoms']:7}{row['n_pairs']:9}  {row['name']:26}"
            f"{row['us_per_atom']:9.3f}{row['ratio']:8.2f}"
        )


if __name__ == "__main__":
    main()
