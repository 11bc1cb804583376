"""Outcome of a label: the prediction before it, its errors, and the prediction after learning it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..models.prediction import Prediction
from ..structures import LabelledStructure
from .history import Observation
from .observed_errors import ObservedErrors

SMALLEST_STRESS = 1e-9
"""Deviations of a stress component (eV/A^3) below this are round-off: symmetry makes the component zero."""


@dataclass(frozen=True)
class PriorPrediction:
    """The prediction for a structure before its label was learned; standard deviations are uncalibrated unless stated.

    Parameters
    ----------
    energy : float
        eV.
    forces, raw_std : (n_atoms, 3) arrays
        eV/A; the deviations are the ones the model states for each atom alone.
    said_std : (n_atoms, 3) array
        Calibrated deviations of the forces, as they were predicted, eV/A.
    strongest : (n_atoms,) array
        See `Prediction`, eV/A.
    borrowed : (n_atoms,) bool array
        See `Prediction`.
    energy_std : float or None
        eV.
    stress, stress_std : (3, 3) arrays or None
        eV/A^3.
    """

    energy: float
    forces: np.ndarray
    raw_std: np.ndarray
    said_std: np.ndarray
    strongest: np.ndarray
    borrowed: np.ndarray
    energy_std: float | None = None
    stress: np.ndarray | None = None
    stress_std: np.ndarray | None = None


@dataclass(frozen=True)
class LabelOutcome:
    """Errors of the prediction before a label, and the prediction after learning it.

    Parameters
    ----------
    force_error : float or None
        RMS error of the predicted forces, eV/A; None where there was no model.
    expected : float or None
        Expected error of the predicted forces, eV/A, see `counted_error`.
    expected_after : float
        The same after learning.
    after : Prediction
        Prediction of the new model for the structure it has just learned, with uncertainty.
    n_new_points : int
        Sparse points added.
    observation : Observation or None
        What the calibration keeps of the label; None where there was no model.
    forces_std : (n_atoms, 3) array or None
        Standard deviations of the predicted forces, calibrated, eV/A.
    energy_error, max_force_error, stress_error : float or None
        Error of the energy per atom (eV), largest error of a force component (eV/A) and of a stress component (eV/A^3).
    worst_ratio : float or None
        Ratio of error to predicted standard deviation for the atom with the largest force error.
    """

    force_error: float | None
    expected: float | None
    expected_after: float
    after: Prediction
    n_new_points: int
    observation: Observation | None
    forces_std: np.ndarray | None = None
    energy_error: float | None = None
    max_force_error: float | None = None
    stress_error: float | None = None
    worst_ratio: float | None = None

    @property
    def expected_rms(self) -> float | None:
        """Expected RMS error of the predicted forces, eV/A."""
        return None if self.forces_std is None else float(np.sqrt(np.mean(self.forces_std**2)))


def compared_energy(prior: PriorPrediction, structure: LabelledStructure) -> tuple[float | None, ObservedErrors | None]:
    """Error of the energy per atom, eV, and its comparison with the standard deviation."""
    if structure.energy is None:
        return None, None
    error = (prior.energy - structure.energy) / structure.n_atoms
    if prior.energy_std is None:
        return error, None
    return error, ObservedErrors.of(np.array([error]), np.array([prior.energy_std / structure.n_atoms]))


def compared_stress(prior: PriorPrediction, structure: LabelledStructure) -> tuple[float | None, ObservedErrors | None]:
    """Largest error of a stress component, eV/A^3, and the comparison of all components with their standard deviations."""
    if structure.virial is None or prior.stress is None:
        return None, None
    six = np.triu_indices(3)
    errors = (prior.stress + structure.virial / structure.atoms.get_volume())[six]
    largest = float(np.abs(errors).max())
    if prior.stress_std is None:
        return largest, None
    return largest, ObservedErrors.of(errors, prior.stress_std[six], SMALLEST_STRESS)
