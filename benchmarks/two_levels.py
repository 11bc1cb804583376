"""Expensive labels that a model needs with one and with two levels of labels.

    python benchmarks/two_levels.py [--systems gfn2 silicon morse] [--sizes 1 2 4 8 16] [--seeds 3] [--cheap 5]

Structures come from Langevin dynamics with the expensive method, in random order. With one level the model is fitted to n expensive
labels; with two, to the same expensive labels and cheap labels of `--cheap` times as many structures, at least 20. The table has the
RMS force error on 20 other structures, mean over the seeds, and below it the number of expensive labels (interpolated on logarithmic
scales) at which each reaches the error of the aim.

gfn2: four water molecules at 400 K, GFN2-xTB on GFN1-xTB. silicon: eight atoms of the crystal at 600 K, GFN2-xTB on GFN1-xTB. morse:
the same, GFN1-xTB on a classical potential of bonds without angles.
"""

import argparse

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from delta import cluster
from tblite.ase import TBLite

import mlpot
from mlpot.fitting.incremental import Fit
from mlpot.learning.level_fit import TwoLevelFit
from mlpot.settings.presets import resolve

N_TEST, APART, FEWEST_CHEAP = 20, 10, 20


def silicon():
    """The cubic cell of the crystal."""
    return bulk("Si", cubic=True)


def xtb(method):
    """A calculator of tblite."""
    return lambda: TBLite(method=method, verbosity=0)


def morse():
    """Bonds of silicon without angles."""
    return MorsePotential(epsilon=2.3, r0=2.35, rho0=4.0, rcut1=3.2, rcut2=3.8)


SYSTEMS = {
    "gfn2": (cluster, 400, xtb("GFN2-xTB"), xtb("GFN1-xTB"), 0.1),
    "silicon": (silicon, 600, xtb("GFN2-xTB"), xtb("GFN1-xTB"), 0.1),
    "morse": (silicon, 600, xtb("GFN1-xTB"), morse, 0.1),
}
"""Start, temperature (K), expensive and cheap calculator, force error to be reached (eV/A)."""


def with_label(atoms, make):
    """The structure with energy and forces of a calculator."""
    found = atoms.copy()
    found.calc = make()
    results = {"energy": found.get_potential_energy(), "forces": found.get_forces()}
    found.calc = SinglePointCalculator(found, **results)
    return found


def structures(start, temperature, make, n, seed):
    """Structures along a trajectory, in random order."""
    atoms, rng, found = start(), np.random.default_rng(seed), []
    atoms.rattle(0.05, rng=rng)
    atoms.calc = make()
    dynamics = Langevin(atoms, 1.0 * units.fs, temperature_K=temperature, friction=0.05 / units.fs, fixcm=False, rng=rng)
    dynamics.run(50)
    for _ in range(n):
        dynamics.run(APART)
        found.append(atoms.copy())
    return [found[k] for k in rng.permutation(n)]


def error(model, test):
    """RMS error of the forces, eV/A."""
    return float(np.sqrt(np.mean([(model.predict(atoms).forces - atoms.get_forces()) ** 2 for atoms in test])))


def curves(name, sizes, seed, ratio):
    """RMS force errors for each number of expensive labels, with one level and with two."""
    start, temperature, expensive, cheap, _ = SYSTEMS[name]
    n_cheap = max(ratio * max(sizes), FEWEST_CHEAP)
    pool = structures(start, temperature, expensive, n_cheap + N_TEST, seed)
    test, pool = [with_label(atoms, expensive) for atoms in pool[:N_TEST]], pool[N_TEST:]
    labels, cheap_labels = [with_label(a, expensive) for a in pool[: max(sizes)]], [with_label(a, cheap) for a in pool]
    species = tuple(sorted(set(pool[0].numbers.tolist())))
    config = resolve(mlpot.FitConfig(preset="fast"), species)
    one, two, found = Fit(config, species), TwoLevelFit(config, species), []
    for size, before in zip(sizes, (0, *sizes), strict=False):
        have = len(two.cheap.structures)
        two.learn_cheap(cheap_labels[have : max(ratio * size, FEWEST_CHEAP)])
        for fit in (one, two):
            fit.update(labels[before:size], fit.propose(labels[before:size]))
        found.append((error(one.model, test), error(two.model, test)))
    return np.array(found).T


def needed(sizes, errors, aim):
    """Number of labels at which a curve reaches the aim, interpolated; None if it does not."""
    below = np.flatnonzero(errors <= aim)
    if not len(below):
        return None
    k = int(below[0])
    if k == 0:
        return float(sizes[0])
    x, y = np.log(sizes[k - 1 : k + 1]), np.log(errors[k - 1 : k + 1])
    return float(np.exp(np.interp(-np.log(aim), -y, x)))


def main():
    """Print a table for each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cheap", type=int, default=5)
    arguments = parser.parse_args()
    sizes = np.array(arguments.sizes)
    for name in arguments.systems:
        found = np.mean([curves(name, arguments.sizes, seed, arguments.cheap) for seed in range(arguments.seeds)], axis=0)
        print(f"\n{name}\n| expensive labels | " + " | ".join(map(str, sizes)) + " |\n|---|" + "---|" * len(sizes))
        for kind, errors in zip(("one level", "two levels"), found, strict=True):
            print(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in errors) + " |", flush=True)
        for aim in (SYSTEMS[name][-1], float(found[0][-1])):
            counts = [needed(sizes, errors, aim) for errors in found]
            said = ["more" if count is None else f"{count:.1f}" for count in counts]
            print(f"{aim:.3f} eV/A: {said[0]} labels with one level, {said[1]} with two")


if __name__ == "__main__":
    main()
