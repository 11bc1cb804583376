"""A metal that melts: learn from a ramp of temperatures, then watch a larger cell as a solid and as a liquid.

    python examples/tutorials/melting.py [FOLDER]

Aluminium, 32 atoms, is heated far beyond its melting point while it learns; EMT stands in for DFT. The model then moves 108 atoms
at two temperatures, and radial distribution functions tell a crystal from a liquid.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk
from ase.io import write
from ase.md.langevin import Langevin
from ase.neighborlist import neighbor_list

import mlpot
from mlpot.config import learning_run
from mlpot.settings.files import LearnFile

LABELLER = {"calculator": "ase.calculators.emt.EMT"}


def learn(folder, steps):
    """A learning run from 300 to 3000 K; returns its model and the number of labels."""
    write(folder / "start.xyz", bulk("Al", cubic=True).repeat(2))
    settings = LearnFile.checked({
        "structure": {"file": str(folder / "start.xyz")},
        "dynamics": {"temperature_K": [300, 3000], "timestep_fs": 3.0, "steps": steps},
        "labeller": LABELLER,
        "model": {"preset": "fast", "cutoff": 5.0},
        "output": {"folder": str(folder / "run")},
    })  # fmt: skip
    with learning_run(settings, resume=False) as run:
        run.run()
        return run.campaign.learner.model, run.campaign.learner.n_labels


def distances_at(model, temperature, steps):
    """Distances between atoms, A, in the second half of Langevin dynamics of 108 atoms at the density of the melt."""
    atoms = bulk("Al", cubic=True).repeat(3)
    atoms.set_cell(1.04 * atoms.cell, scale_atoms=True)
    atoms.calc = mlpot.MlpotCalculator(model, uncertainty=False)
    atoms.rattle(0.1, seed=0)
    rng, friction = np.random.default_rng(0), 0.02 / units.fs
    dynamics = Langevin(atoms, 4 * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=rng)
    found = []
    dynamics.attach(lambda: found.append(neighbor_list("d", atoms, 6.0)), interval=10)
    dynamics.run(steps)
    return np.concatenate(found[len(found) // 2 :]), (len(found) - len(found) // 2) * len(atoms), len(atoms) / atoms.get_volume()


def main(folder, steps=600, longer=400):
    """Learn, simulate, draw; returns the heights of g(r) at its first minimum of the crystal."""
    folder.mkdir(parents=True, exist_ok=True)
    model, n_labels = learn(folder, steps)
    print(f"{n_labels} labels for {steps} steps")
    figure, axes = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
    edges, heights = np.linspace(1.5, 6.0, 91), {}
    for temperature, colour in ((300, "tab:blue"), (3000, "tab:red")):
        distances, n_centres, density = distances_at(model, temperature, longer)
        shells = 4 / 3 * np.pi * np.diff(edges**3)
        g = np.histogram(distances, edges)[0] / (n_centres * density * shells)
        middle = (edges[1:] + edges[:-1]) / 2
        axes.plot(middle, g, color=colour, label=f"{temperature} K")
        heights[temperature] = float(g[np.abs(middle - 3.5).argmin()])
    axes.set(xlabel="r / Å", ylabel="g(r)")
    axes.legend()
    figure.savefig(folder / "melting.png", dpi=80)
    return heights


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "melting")))
