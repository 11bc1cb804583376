"""Cost of the uncertainty of a fit: steps without and with it, in turns.

    OMP_NUM_THREADS=1 python benchmarks/uncertainty_cost.py ../shared/data MODELS [--cases "Si balanced" ...] [--instructions 1]

Models are fitted to the data and kept in the folder MODELS, for the next run or for another checkout that reads them. Each line: data
and preset, atoms, microseconds per atom for energy, forces and (in crystals) stress through the ASE calculator without and with
uncertainty, the least of all turns, and the median ratio of neighbouring turns. Processor time. Water has structures of the data and
energies of springs, which have no meaning.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from pareto import FILES, isolated_atoms

import mlpot
from mlpot._ext import core
from mlpot.bench import silicon
from mlpot.drivers.ase import MlpotCalculator
from mlpot.neighbours import find_pairs
from mlpot.structures import read_structures

EVERY = {"acac balanced": 2, "acac fast": 2, "Si accurate": 2, "acac accurate": 4}
"""Fewer structures for the fit: the cost of a step is that of the same number of points."""
CASES = ["Si fast", "Si balanced", "Si accurate", "Mo balanced", "acac fast", "acac balanced", "water balanced"]
ATOMS_PER_TURN = 3000
SPRING, REACH = 0.4, 3.0
"""Of water: eV/A^2 and A."""


def with_springs(atoms):
    """The structure with energy and forces of springs between near atoms."""
    found = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    pairs = find_pairs(found, REACH)
    stretch = REACH - pairs.distances
    gradients = -SPRING * (stretch**3 / pairs.distances)[:, None] * pairs.vectors
    found.calc = SinglePointCalculator(found, energy=0.25 * SPRING * float(np.sum(stretch**4)), forces=pairs.forces(gradients))
    return found


def training_data(folder, name):
    """Structures to fit, and energies of isolated atoms or None."""
    if name == "water":
        return [with_springs(atoms) for atoms in read_structures(folder / "water_bulk_tensors.xyz")[:20]], None
    return read_structures(folder / FILES[name][0]), isolated_atoms(folder, name)


def model_of(folder, models, case):
    """The model of a case, from its file if it was fitted before."""
    file = models / f"{case.replace(' ', '_')}.h5"
    if not file.exists():
        name, preset = case.split()
        frames, isolated = training_data(folder, name)
        config = mlpot.FitConfig(preset=preset, isolated_atom_energies=isolated)
        mlpot.fit(frames[:: EVERY.get(case, 1)], config).save(file)
    return mlpot.load_model(file)


def structure_of(folder, name):
    """What is stepped: a rattled crystal, thirty molecules far from each other, or water."""
    if name == "Si":
        return silicon(6)
    if name == "Mo":
        atoms = bulk("Mo", "bcc", a=3.17, cubic=True) * (9, 9, 9)
        atoms.rattle(0.05, seed=0)
        return atoms
    if name == "water":
        return with_springs(read_structures(folder / "water_bulk_tensors.xyz")[30]) * (2, 2, 2)
    molecules = read_structures(folder / FILES[name][1])[:30]
    return sum((Atoms(m.numbers, m.positions + np.array([0, 0, 30.0 * k])) for k, m in enumerate(molecules)), Atoms())


def step_of(atoms, model, uncertainty):
    """A step: all atoms move a little."""
    atoms, rng = atoms.copy(), np.random.default_rng(1)
    atoms.calc = MlpotCalculator(model, uncertainty=uncertainty)

    def step():
        atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
        atoms.get_forces()
        if all(atoms.pbc):
            atoms.get_stress()

    return step


def seconds_of(step, times):
    start = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - start) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--instructions", type=int, default=-1, help="1: AVX2, 2: AVX-512")
    arguments = parser.parse_args()
    arguments.models.mkdir(exist_ok=True)
    core.use_instructions(arguments.instructions)
    for case in arguments.cases:
        model, atoms = model_of(arguments.data, arguments.models, case), structure_of(arguments.data, case.split()[0])
        steps = [step_of(atoms, model, uncertainty) for uncertainty in (False, True)]
        times = max(ATOMS_PER_TURN // len(atoms), 1)
        for step in steps:
            step()
        turns = np.array([[seconds_of(step, times) for step in steps] for _ in range(arguments.turns)])
        least, ratio = 1e6 * turns.min(axis=0) / len(atoms), np.median(turns[:, 1] / turns[:, 0])
        print(f"{case:15s} {len(atoms):5d} atoms: {least[0]:7.2f} and {least[1]:7.2f} us/atom, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
