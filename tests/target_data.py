"""Small molecules with dipoles and polarisabilities from formulas: point charges that depend on the bond, bond polarisabilities."""

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

TERMS = [{"cutoff": 3.0, "n_max": 4, "l_max": 3, "atom_sigma": 0.4, "n_invariants": 12, "n_covariants": 24}]


def charge(length):
    """Charge of H, e, at a distance from O, A."""
    return 0.4 * np.exp(-((length - 1.0) ** 2))


def water(rng):
    """A rotated, distorted molecule with results "dipole" and info "polarizability" (A^3)."""
    lengths, angle = 1.0 + 0.12 * rng.uniform(-1, 1, 2), 1.8 + 0.3 * rng.uniform(-1, 1)
    bonds = np.array([[lengths[0], 0, 0], [lengths[1] * np.cos(angle), lengths[1] * np.sin(angle), 0]])
    bonds = bonds @ Rotation.random(random_state=int(rng.integers(2**31))).as_matrix().T
    place = rng.uniform(-2, 2, 3)
    atoms = Atoms("OHH", positions=place + np.concatenate([np.zeros((1, 3)), bonds]))
    dipole = sum(charge(length) * bond for length, bond in zip(lengths, bonds, strict=True))
    tensor = sum(0.3 * length * np.eye(3) + 0.8 * np.outer(b, b) for length, b in zip(lengths, bonds, strict=True))
    atoms.info["polarizability"] = tensor
    atoms.arrays["charges_of_atoms"] = np.array([-sum(map(charge, lengths)), *map(charge, lengths)])
    atoms.calc = SinglePointCalculator(atoms, energy=float(np.sum((lengths - 1) ** 2)), dipole=dipole)
    return atoms


def waters(n, seed=0):
    rng = np.random.default_rng(seed)
    return [water(rng) for _ in range(n)]
