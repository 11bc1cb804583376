"""Features of a model of whole structures, in NumPy: two layers of message passing, whose features reach two cutoffs far.

    python examples/feature_model.py

The class keeps the contract of `mlpot.FeatureModel`: features of all atoms, and derivatives by positions and strain. A neural network
takes its place in the same way, see docs/howto/feature_models.md. In a configuration file it is named as `type = "features"` and
`model = "feature_model:MessagePassing"`, with this folder on PYTHONPATH.
"""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

import mlpot


class MessagePassing(mlpot.FeatureModel):
    """h_ik = sum_j a_zj g_k(r_ij), and m_ik = sum_j tanh(sum_l W_kl h_jl) g_k(r_ij), with Gaussians g_k that end at the cutoff.

    Features of an atom are (h_i, m_i): its neighbours, and what its neighbours see. The weights are random, as of a network that has
    not been trained.
    """

    def __init__(self, species=(29, 79), cutoff=4.0, n_radial=6, seed=0):
        rng = np.random.default_rng(seed)
        self.species, self.cutoff, self.n_radial = tuple(species), cutoff, n_radial
        self.n_features = 2 * n_radial
        self._weights = rng.normal(size=(n_radial, n_radial)) / np.sqrt(n_radial)
        self._charges = 0.5 + rng.random(len(self.species))

    def _edges(self, atoms):
        """Pairs i -> j, their distances and vectors, and Gaussians with slopes (n_pairs, n_radial)."""
        i, j, r, vectors = neighbor_list("ijdD", atoms, self.cutoff)
        x = (r[:, None] - np.linspace(1.5, self.cutoff, self.n_radial)) / 0.5
        step = (1 - (r[:, None] / self.cutoff) ** 2) ** 3
        slope = -6 * r[:, None] / self.cutoff**2 * (1 - (r[:, None] / self.cutoff) ** 2) ** 2
        bump = np.exp(-0.5 * x**2)
        return i, j, r, vectors, bump * step, bump * (slope - x / 0.5 * step)

    def _layers(self, atoms, edges):
        """Charges of the neighbours (n_pairs, 1), and the arrays of both layers (n_atoms, n_radial)."""
        i, j, _, _, g, _ = edges
        charges = self._charges[np.searchsorted(self.species, atoms.numbers[j])][:, None]
        first, second = np.zeros((len(atoms), self.n_radial)), np.zeros((len(atoms), self.n_radial))
        np.add.at(first, i, charges * g)
        message = np.tanh(first @ self._weights.T)
        np.add.at(second, i, message[j] * g)
        return charges, first, message, second

    def compute(self, atoms):
        _, first, _, second = self._layers(atoms, self._edges(atoms))
        return np.concatenate([first, second], axis=1)

    def vjp(self, atoms, cotangent):
        i, j, r, vectors, g, slopes = edges = self._edges(atoms)
        charges, _, message, _ = self._layers(atoms, edges)
        of_first, of_second = cotangent[:, : self.n_radial].copy(), cotangent[:, self.n_radial :]
        of_message = np.zeros_like(message)
        np.add.at(of_message, j, of_second[i] * g)
        of_first += (of_message * (1 - message**2)) @ self._weights
        of_g = of_first[i] * charges + of_second[i] * message[j]
        along = (np.sum(of_g * slopes, axis=1) / r)[:, None] * vectors  # by the vector from i to j
        gradients = np.zeros((len(atoms), 3))
        np.add.at(gradients, j, along)
        np.add.at(gradients, i, -along)
        return gradients, vectors.T @ along


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
    """Fit, check the contract of the model, predict with an uncertainty."""
    frames = [labelled(seed) for seed in range(8)]
    terms = [
        {"type": "pair", "cutoff": 5.0},
        {"type": "features", "model": "feature_model:MessagePassing", "parameters": {"cutoff": 4.0}, "n_sparse": 12},
    ]
    model = mlpot.fit(frames[:6], mlpot.FitConfig(terms=terms, check_labels=False))
    for check in mlpot.validate_model(model, frames[0]):
        print(f"{check.name}: {'passed' if check.passed else 'FAILED'}")
    p = model.predict(frames[7], uncertainty=True)
    error = np.sqrt(np.mean((p.forces - frames[7].get_forces()) ** 2))
    print(f"{model}\nforces err by {error:.3f} eV/A, expected {np.sqrt(np.mean(p.forces_std**2)):.3f}")
    return model, error


if __name__ == "__main__":
    main()
