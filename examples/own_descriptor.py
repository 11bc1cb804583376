"""A descriptor of one's own, in NumPy: sums of radial functions for every element of the neighbours.

    python examples/own_descriptor.py

The class keeps the contract of `mlpot.Descriptor`, so everything works on it: fit, uncertainty, learning runs, files, reports. In a
configuration file it is named as `type = "own_descriptor:RadialFunctions"`, with this folder on PYTHONPATH.
"""

from dataclasses import dataclass

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot


@dataclass(frozen=True)
class RadialFunctions(mlpot.Descriptor):
    """f_zk = sum_j exp(-((r_ij - r_k) / width)^2 / 2) (1 - (r_ij / cutoff)^2)^3 over neighbours j of element z."""

    species: tuple[int, ...]
    cutoff: float = 5.0
    n_radial: int = 8
    width: float = 0.5

    @property
    def n_features(self):
        return len(self.species) * self.n_radial

    def _functions(self, pairs):
        """Values and slopes (n_pairs, n_radial), and the first column of each neighbour's element."""
        r = pairs.distances[:, None]
        x = (r - np.linspace(1.5, self.cutoff, self.n_radial)) / self.width
        bump, step = np.exp(-0.5 * x**2), (1 - (r / self.cutoff) ** 2) ** 3
        slope = bump * (-x / self.width * step - 6 * r / self.cutoff**2 * (1 - (r / self.cutoff) ** 2) ** 2)
        columns = self.n_radial * np.searchsorted(self.species, pairs.numbers[pairs.j])
        return bump * step, slope, columns[:, None] + np.arange(self.n_radial)

    def compute(self, pairs):
        values, _, columns = self._functions(pairs)
        features = np.zeros((pairs.n_atoms, self.n_features))
        np.add.at(features, (pairs.i[:, None], columns), values)
        return features

    def vjp(self, pairs, cotangent):
        _, slopes, columns = self._functions(pairs)
        along = np.sum(cotangent[pairs.i[:, None], columns] * slopes, axis=1)
        return (along / pairs.distances)[:, None] * pairs.vectors


def labelled(seed):
    """A rattled crystal of copper and gold with energy, forces and stress of EMT."""
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True) * (2, 1, 1)
    atoms.numbers[:3] = 79
    atoms.rattle(0.12, seed=seed)
    atoms.calc = EMT()
    results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def main():
    """Check the contract, fit, predict with an uncertainty."""
    frames = [labelled(seed) for seed in range(12)]
    for check in mlpot.validate_descriptor(RadialFunctions((29, 79)), frames[0]):
        print(f"{check.name}: {'passed' if check.passed else 'FAILED'}")
    terms = [{"type": RadialFunctions, "cutoff": 5.0, "zeta": 2, "standardise": False, "n_sparse": 60}]
    model = mlpot.fit(frames[:10], mlpot.FitConfig(terms=terms))
    p = model.predict(frames[11], uncertainty=True)
    error = np.sqrt(np.mean((p.forces - frames[11].get_forces()) ** 2))
    print(f"{model}\nforces err by {error:.3f} eV/A, expected {np.sqrt(np.mean(p.forces_std**2)):.3f}")
    return model, error


if __name__ == "__main__":
    main()
