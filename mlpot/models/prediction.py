"""What a model says of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Energy, forces and stress with their uncertainty, in ASE's units.

    Parameters
    ----------
    energy : float
        eV.
    energies : (n_atoms,) array
        Local energies, eV; they add up to `energy`.
    forces : (n_atoms, 3) array
        eV/A.
    virial : (3, 3) array
        -dE/dstrain, eV.
    stress : (3, 3) array or None
        -virial / volume, eV/A^3; None without a three-dimensional cell.
    energies_std : (n_atoms,) array or None
        Standard deviations of the local energies, eV; None unless asked for.
    energy_std : float or None
        Standard deviation of the total energy, eV; None unless asked for.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    stress: np.ndarray | None
    energies_std: np.ndarray | None = None
    energy_std: float | None = None
