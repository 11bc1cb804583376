"""Errors of the presets on test files against what a step costs.

    OMP_NUM_THREADS=1 python benchmarks/pareto.py ../shared/data [--sets Si Mo acac NbMoTaW] [--presets fast balanced] [--plot FILE]

Each line: data, preset, mean absolute errors of energies and forces (acetylacetone: root mean squares, energies per molecule),
microseconds per atom for energy, forces and virial without and with uncertainty in structures of some hundred atoms, seconds
of the fit. Nothing but the preset's name is given to a fit, and isolated atoms where the data has them. Processor time, the
least of some turns. NbMoTaW is fitted with `--every` n-th structure.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mlpot
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
    seconds: float

    def __str__(self):
        return (
            f"{self.data:8s} {self.preset:9s} {self.energy:6.2f} meV {self.forces:.4f} eV/A {self.cost:7.1f} us/atom, "
            f"with uncertainty {self.cost_with_uncertainty:7.1f}, fit {self.seconds:.0f} s"
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
    least = np.inf
    for _ in range(TURNS):
        start = time.process_time()
        for structure in timed:
            model.predict(structure, uncertainty)
        least = min(least, time.process_time() - start)
    return 1e6 * least / sum(map(len, timed))


def point(folder, name, preset, every):
    """Fit and judge one preset."""
    train, test = (read_structures(folder / file) for file in FILES[name])
    train = train[::every] if name == "NbMoTaW" else train
    start = time.perf_counter()
    config = mlpot.FitConfig(preset=preset, isolated_atom_energies=isolated_atoms(folder, name))
    model = mlpot.fit(train, config).compile()
    seconds = time.perf_counter() - start
    costs = [cost_of(model, test, uncertainty) for uncertainty in (False, True)]
    return Point(name, preset, *errors_of(model, test, name), *costs, seconds)


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
    parser.add_argument("--every", type=int, default=1, help="of the training structures of NbMoTaW")
    parser.add_argument("--plot", help="file for the plot")
    arguments = parser.parse_args()
    points = []
    for name in arguments.sets:
        for preset in arguments.presets:
            points.append(point(arguments.data, name, preset, arguments.every))
            print(points[-1], flush=True)
    if arguments.plot:
        draw(points, arguments.plot)


if __name__ == "__main__":
    main()
