"""Errors of the presets on test files against what a step costs.

    OMP_NUM_THREADS=1 python benchmarks/pareto.py ../shared/data [--sets Si Mo acac NbMoTaW] [--presets fast balanced] [--plot FILE]

Each line: data, preset, mean absolute errors of energies and forces (acetylacetone: root mean squares, energies per molecule),
microseconds per atom for energy, forces and virial without and with uncertainty in structures of some hundred atoms, ranks of the
compiled kernels by term and element, seconds of the fit. Nothing but the preset's name is given to a fit, and isolated atoms where
the data has them. Processor time, the least of some turns. Every n-th training structure is fitted with `--every`. In the same run,
for the state of the machine: products of matrices, and LAMMPS with pair style snap (2J = 8) in silicon.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.build import bulk

import mlpot
from mlpot.bench_peers import lammps_snap
from mlpot.structures import read_structures

FILES = {
    "Si": ("Si_train.xyz", "Si_test.xyz"),
    "Mo": ("Mo_train.xyz", "Mo_test.xyz"),
    "acac": ("acac_train_300K.xyz", "acac_test_300K.xyz"),
    "NbMoTaW": ("NbMoTaW_train.xyz", "NbMoTaW_test.xyz"),
}
PRESETS = ("fast", "balanced", "accurate")
N_TIMED = 500
TURNS = 3


@dataclass(frozen=True)
class Point:
    """One preset on one data set: errors in meV/atom (per molecule) and eV/A, microseconds per atom, seconds."""

    data: str
    preset: str
    energy: float
    forces: float
    cost: float
    cost_with_uncertainty: float
    ranks: list
    seconds: float

    def __str__(self):
        return (
            f"{self.data:8s} {self.preset:9s} {self.energy:6.2f} meV {self.forces:.4f} eV/A {self.cost:7.1f} us/atom, "
            f"with uncertainty {self.cost_with_uncertainty:7.1f}, ranks {self.ranks}, fit {self.seconds:.0f} CPU s"
        )


def isolated_atoms(folder, name):
    """Energies by symbol of a file of single atoms, or None."""
    file = folder / f"{name}_isolated_atoms.xyz"
    if not file.is_file():
        return None
    return {atoms.get_chemical_symbols()[0]: atoms.get_potential_energy() for atoms in read_structures(file)}


def errors_of(model, test, name):
    """Errors of energies (meV) and forces (eV/A) as the table has them."""
    found = [(atoms, model.predict(atoms)) for atoms in test]
    energies = np.array([p.energy - atoms.get_potential_energy() for atoms, p in found])
    forces = np.concatenate([(p.forces - atoms.get_forces()).ravel() for atoms, p in found])
    if name == "acac":
        return 1e3 * float(np.sqrt(np.mean(energies**2))), float(np.sqrt(np.mean(forces**2)))
    per_atom = energies / [len(atoms) for atoms, _ in found]
    return 1e3 * float(np.abs(per_atom).mean()), float(np.abs(forces).mean())


def cost_of(model, test, uncertainty):
    """Microseconds per atom."""
    largest = max(test, key=len)
    atoms = largest.repeat(2) if all(largest.pbc) and len(largest) * 8 < 4 * N_TIMED else largest
    timed = [atoms] if len(atoms) > 100 else test[: N_TIMED // len(atoms)]
    seconds = least_seconds(lambda: [model.predict(structure, uncertainty) for structure in timed])
    return 1e6 * seconds / sum(map(len, timed))


def beside():
    """What the machine does meanwhile: GFLOP/s of matrix products, us/atom of LAMMPS with pair style snap."""
    matrix = np.random.default_rng(0).standard_normal((512, 512))
    product = least_seconds(lambda: matrix @ matrix)
    atoms = bulk("Si", cubic=True).repeat(4)
    sys.path.append(sys.path.pop(0))  # not lammps.py beside this file
    with lammps_snap(atoms, 1) as step:
        snap = least_seconds(step)
    return f"matrix products {2e-9 * 512**3 / product:.0f} GFLOP/s, LAMMPS snap {1e6 * snap / len(atoms):.0f} us/atom"


def least_seconds(function):
    """Processor time of one call, the least of some turns."""
    least = np.inf
    for _ in range(TURNS):
        start = time.process_time()
        function()
        least = min(least, time.process_time() - start)
    return least


def point(folder, name, preset, every):
    """Fit and judge one preset."""
    train, test = (read_structures(folder / file) for file in FILES[name])
    train = train[::every]
    start = time.process_time()
    config = mlpot.FitConfig(preset=preset, isolated_atom_energies=isolated_atoms(folder, name))
    model = mlpot.fit(train, config).compile()
    seconds = time.process_time() - start
    ranks = [[part.energy.n for part in term.parts] for term in model.terms if hasattr(term, "parts")]
    costs = [cost_of(model, test, uncertainty) for uncertainty in (False, True)]
    return Point(name, preset, *errors_of(model, test, name), *costs, ranks, seconds)


def draw(points, file):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="us/atom", ylabel="error of forces, eV/A", xscale="log", yscale="log")
    for name in dict.fromkeys(p.data for p in points):
        mine = [p for p in points if p.data == name]
        axes.plot([p.cost for p in mine], [p.forces for p in mine], "o-", label=name)
        for p in mine:
            axes.annotate(p.preset, (p.cost, p.forces), fontsize=7)
    axes.legend()
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--every", type=int, default=1, help="fit every n-th training structure")
    parser.add_argument("--plot", help="file for the plot")
    arguments = parser.parse_args()
    print(beside(), flush=True)
    points = []
    for name in arguments.sets:
        for preset in arguments.presets:
            points.append(point(arguments.data, name, preset, arguments.every))
            print(points[-1], flush=True)
    if arguments.plot:
        draw(points, arguments.plot)


if __name__ == "__main__":
    main()
