"""CO on Cu(111): which site does it sit on, and what did it cost to find out?

    python examples/tutorials/co_on_copper.py [FOLDER]

A molecule is relaxed on four sites of a slab by ASE's BFGS. One `LearningCalculator` serves all four relaxations, so each site
profits from the labels of the ones before; every end is confirmed by a label. EMT stands in for DFT here, so that the script
takes a minute: name your own calculator in `LABELLER`.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms
from ase.optimize import BFGS

import mlpot

LABELLER = ("ase.calculators.emt.EMT", {})
SITES = ("ontop", "bridge", "fcc", "hcp")


def slab_with(site):
    """Two layers of Cu(111), 2 x 2, the lower one fixed, with CO upright above a site."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=7.0, periodic=True)
    add_adsorbate(slab, Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.15]]), 1.9, site)
    slab.set_constraint(FixAtoms(mask=slab.positions[:, 2] < slab.positions[:, 2].min() + 1.0))
    slab.rattle(0.01, seed=0)
    return slab


def main(folder, sites=SITES):
    """Relax on all sites; returns energies relative to the best site, eV, and labels per site."""
    energies, labels, before = {}, {}, 0
    config = mlpot.FitConfig(preset="fast", cutoff=4.5)
    with mlpot.LearningCalculator(folder / "run", *LABELLER, config=config) as calculator:
        for site in sites:
            atoms = slab_with(site)
            atoms.calc = calculator
            for _ in range(5):
                BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
                if not calculator.confirm(atoms).changed:
                    break
            energies[site] = atoms.get_potential_energy()
            labels[site] = calculator.learner.n_labels - before
            before = calculator.learner.n_labels
            print(f"{site:7s} {energies[site]:9.3f} eV  {labels[site]} labels")
    lowest = min(energies.values())
    relative = {site: energy - lowest for site, energy in energies.items()}
    draw(relative, labels, folder / "co_on_copper.png")
    return relative, labels


def draw(relative, labels, file):
    """Energies of the sites and labels that each of them needed."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.4), layout="constrained")
    left.bar(relative.keys(), relative.values(), color="tab:blue")
    left.set_ylabel("energy above the best site / eV")
    right.bar(labels.keys(), labels.values(), color="tab:orange")
    right.set_ylabel("labels")
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "co_on_copper"))
