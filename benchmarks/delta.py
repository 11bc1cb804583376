"""Labels that a fit needs with and without a calculator beneath it: GFN2-xTB on GFN1-xTB for clusters of water.

    python benchmarks/delta.py [--sizes 2 4 8 16 32] [--seeds 3]

Structures are from Langevin dynamics of four molecules at 400 K with GFN1-xTB; labels are GFN2-xTB. For each number of labels the
table has the RMS force error on 20 other structures, mean over the seeds, of a fit from nothing and of a fit to differences.
"""

import argparse

import numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from tblite.ase import TBLite

import mlpot

CHEAP = {"calculator": "tblite.ase.TBLite", "parameters": {"method": "GFN1-xTB", "verbosity": 0}}
N_TEST, APART, AIM = 20, 10, 0.1


def cluster():
    """Four water molecules at the corners of a square."""
    atoms = molecule("H2O")
    for shift in ([2.9, 0, 0], [0, 2.9, 0], [2.9, 2.9, 0]):
        other = molecule("H2O")
        other.rotate(90 * shift[0] + 45, "z")
        other.translate(shift)
        atoms += other
    return atoms


def structures(n, seed):
    """Labelled structures along a trajectory."""
    atoms, rng, found = cluster(), np.random.default_rng(seed), []
    atoms.rattle(0.05, rng=rng)
    atoms.calc = TBLite(**CHEAP["parameters"])
    dynamics = Langevin(atoms, 1.0 * units.fs, temperature_K=400, friction=0.05 / units.fs, fixcm=False, rng=rng)
    dynamics.run(50)
    for _ in range(n):
        dynamics.run(APART)
        frame = atoms.copy()
        frame.calc = TBLite(method="GFN2-xTB", verbosity=0)
        frame.calc = SinglePointCalculator(frame, energy=frame.get_potential_energy(), forces=frame.get_forces())
        found.append(frame)
    return found


def main():
    """Print the table, and the number of labels at which each reaches the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[2, 4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    errors = {kind: np.zeros((arguments.seeds, len(arguments.sizes))) for kind in ("from nothing", "on GFN1-xTB")}
    for seed in range(arguments.seeds):
        frames = structures(max(arguments.sizes) + N_TEST, seed)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(frames))
        test = [frames[k] for k in order[:N_TEST]]
        for k, size in enumerate(arguments.sizes):
            train = [frames[i] for i in order[N_TEST : N_TEST + size]]
            for kind, baseline in (("from nothing", None), ("on GFN1-xTB", CHEAP)):
                model = mlpot.fit(train, mlpot.FitConfig(preset="fast", check_labels=False, baseline=baseline))
                wrong = [model.predict(atoms).forces - atoms.get_forces() for atoms in test]
                errors[kind][seed, k] = np.sqrt(np.mean(np.concatenate(wrong) ** 2))
    print("| labels | " + " | ".join(map(str, arguments.sizes)) + " |")
    for kind, values in errors.items():
        print(f"| {kind} | " + " | ".join(f"{mean:.3f}" for mean in values.mean(axis=0)) + " |")
        below = [size for size, mean in zip(arguments.sizes, values.mean(axis=0), strict=True) if mean <= AIM]
        print(f"  {AIM} eV/A with {below[0] if below else f'more than {max(arguments.sizes)}'} labels")


if __name__ == "__main__":
    main()
