"""A potential of forty elements, and what it costs beside one of a single element: the same.

    python examples/forty_elements.py [--clusters 400] [--plot cost.png]

Labels are from GFN1-xTB (tblite), an electronic-structure engine that needs no installation: clusters of six atoms of forty
elements, at random, at distances that bonds have. Models with the channels of all elements mixed are fitted to the
clusters of the first 1, 5, 10, 20 and 40 elements; each then predicts crystals of these elements. Printed are sizes of the
models, errors on clusters left out, and microseconds per atom for energy and forces, in turns so that all meet the same
machine.
"""

import argparse
import time

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, SCFError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, covalent_radii

import mlpot

ELEMENTS = (
    "Si H C N O F Na Mg Al P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Y Zr Nb Mo Ru Rh Pd Ag Sn Pt Au"
).split()
COUNTS = (1, 5, 10, 20, 40)
N_ATOMS = 6
SOAP = {
    "type": "soap", "n_max": 12, "l_max": 6, "cutoff": 5.0, "cutoff_width": 3.5, "zeta": 2, "n_sparse": 30,
    "mix": "both", "n_channels": 12, "symmetric": True,
}  # fmt: skip
N_CRYSTAL = 4394
TURNS = 5


def cluster(numbers, rng):
    """Atoms added one by one beside one that is there, none nearer to another than bonds allow."""
    positions = [np.zeros(3)]
    while len(positions) < len(numbers):
        new, radii = numbers[len(positions)], covalent_radii[list(numbers)]
        beside = rng.integers(len(positions))
        direction = rng.normal(size=3)
        bond = (radii[beside] + covalent_radii[new]) * rng.uniform(1.0, 1.3)
        place = positions[beside] + bond * direction / np.linalg.norm(direction)
        distances = np.linalg.norm(place - np.array(positions), axis=1)
        if np.all(distances > 0.95 * (radii[: len(positions)] + covalent_radii[new])):
            positions.append(place)
    return Atoms(numbers, positions=positions)


def labelled(atoms):
    """With energy and forces of GFN1-xTB, or None where it finds no ground state."""
    from tblite.ase import TBLite

    calculator = TBLite(method="GFN1-xTB", verbosity=0, electronic_temperature=2000.0)
    try:
        energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
    except (CalculationFailed, SCFError, RuntimeError):
        return None
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms if np.abs(forces).max() < 20 else None


def data_set(symbols, n_clusters, seed=0):
    """Clusters of some elements, each as often as the others, that the engine could label."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(np.resize([atomic_numbers[s] for s in symbols], n_clusters * N_ATOMS))
    frames = [labelled(cluster(own, rng)) for own in numbers.reshape(n_clusters, N_ATOMS)]
    return [atoms for atoms in frames if atoms is not None]


def crystal(symbols, seed=0):
    """4394 atoms that meet 26 neighbours each."""
    atoms = bulk("Mo", "bcc", a=3.2, cubic=True) * (13, 13, 13)
    rng = np.random.default_rng(seed)
    atoms.symbols = rng.permutation(np.resize(symbols, len(atoms)))
    atoms.rattle(0.1, seed=seed)
    return atoms


def fitted(symbols, n_clusters):
    """A model, the number of its features, and its mean absolute force error on a fifth of the clusters left out."""
    frames = data_set(symbols, n_clusters)
    n_test = len(frames) // 5
    config = mlpot.FitConfig(terms=[SOAP], energy_noise=0.01, force_noise=0.1, check_labels=False)
    model = mlpot.fit(frames[n_test:], config)
    errors = [np.abs(model.predict(atoms).forces - atoms.get_forces()).mean() for atoms in frames[:n_test]]
    return model, model.terms[0].descriptor.n_features, float(np.mean(errors)), len(frames)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clusters", type=int, default=400, help="clusters for every model")
    parser.add_argument("--plot", help="file for a plot of the cost")
    arguments = parser.parse_args()
    found = {n: fitted(ELEMENTS[:n], arguments.clusters) for n in COUNTS}
    compiled = {n: (model.compile(), crystal(ELEMENTS[:n])) for n, (model, *_) in found.items()}
    least = dict.fromkeys(COUNTS, np.inf)
    for _ in range(TURNS):
        for n, (model, atoms) in compiled.items():
            start = time.process_time()
            model.predict(atoms)
            least[n] = min(least[n], time.process_time() - start)
    print("elements  labels  features  force error eV/A  us/atom")
    for n, (_, n_features, error, n_labels) in found.items():
        print(f"{n:8d} {n_labels:7d} {n_features:9d} {error:17.3f} {1e6 * least[n] / N_CRYSTAL:8.1f}")
    if arguments.plot:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.add_subplot(
            xlabel="elements", ylabel="us/atom", ylim=(0, 1.3e6 * max(least.values()) / N_CRYSTAL)
        )
        axes.plot(COUNTS, [1e6 * least[n] / N_CRYSTAL for n in COUNTS], "o-")
        figure.savefig(arguments.plot)


if __name__ == "__main__":
    main()
