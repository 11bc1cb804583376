"""What a model says of a structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import required
from ..neighbours import Pairs
from ..uncertainty.calibration import UNCALIBRATED, Calibration
from ..uncertainty.variances import Variances

WORST = 3.0
"""The least certain atom of a structure may be this much less certain than a target says, which is about the root mean square of all:
that is what it is for about twenty atoms with normal errors. Counting the least certain atom itself, runs went on to ask for labels
until they were three to eight times more accurate than their targets."""


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
        Of the total energy, eV, with the correlations of all atoms; None unless asked for.
    forces_std : (n_atoms, 3) array or None
        Of the forces, eV/A; None unless asked for, and from an imported model.
    forces_stated_std : (n_atoms, 3) array or None
        As the model itself states them, before calibration and without what the uncertain forces on neighbours add, eV/A.
    borrowed : (n_atoms,) bool array or None
        Whether `forces_std` of an atom is its share of what its neighbours are uncertain of.
    forces_discrepancy : (n_atoms, 3) array or None
        The part of `forces_std` (in squares) that labels of these atoms would not take away, eV/A: what this kind of model cannot
        explain. None where that is.
    stress_std : (3, 3) array or None
        Of the stress, eV/A^3; None unless asked for, without a three-dimensional cell, and from an imported model.
    novelty : (n_atoms,) array or None
        How far environments are from all sparse points: the prior's standard deviation that the sparse points do not explain
        over what they leave at environments that count as known. About 1 or less for known environments, whatever the
        calibration says; see `NOVEL`. None unless asked for, and from an imported model.
    strongest : (n_atoms,) array or None
        The strongest force between an atom and a neighbour, eV/A: twice what its own local energy contributes. None unless
        uncertainties are asked for.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    stress: np.ndarray | None
    energies_std: np.ndarray | None = None
    energy_std: float | None = None
    forces_std: np.ndarray | None = None
    forces_stated_std: np.ndarray | None = None
    borrowed: np.ndarray | None = None
    forces_discrepancy: np.ndarray | None = None
    stress_std: np.ndarray | None = None
    novelty: np.ndarray | None = None
    strongest: np.ndarray | None = None

    def __repr__(self) -> str:
        parts = [f"{len(self.energies)} atoms", f"energy {self.energy:.6g} eV"]
        if self.energy_std is not None:
            parts[-1] += f" +- {self.energy_std:.2g}"
        if len(self.forces):
            parts.append(f"largest force {np.sqrt(np.max(np.sum(self.forces**2, axis=1))):.3g} eV/A")
            if self.forces_std is not None:
                parts[-1] += f" (expected error {counted_error(self.forces_std):.2g})"
            if self.novelty is not None:
                parts.append(f"novelty {np.max(self.novelty):.2g}")
        return f"Prediction({', '.join(parts)})"


class Uncertainty(Mapping):
    """ "energies_std" (n_atoms,) and "energy_std" in eV, "forces_std" (n_atoms, 3) in eV/A, "stress_std" (3, 3) in eV/A^3
    and "novelty" (n_atoms,) of a prediction: those that it has, none when it was made without."""

    NAMES = ("energies_std", "energy_std", "forces_std", "stress_std", "novelty")

    def __init__(self, prediction: Prediction | None = None):
        self._prediction = prediction

    def __getitem__(self, name: str) -> np.ndarray | float:
        if name not in list(self):
            raise KeyError(name)
        return getattr(self._prediction, name)

    def __iter__(self) -> Iterator[str]:
        return iter(name for name in self.NAMES if getattr(self._prediction, name, None) is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))


def least_certain(forces_std: np.ndarray) -> float:
    """Expected error of a component of the least certain force, eV/A, from deviations (n_atoms, 3)."""
    return float(np.sqrt(np.max(np.mean(forces_std**2, axis=1))))


def counted_error(forces: np.ndarray) -> float:
    """Error of forces as targets and thresholds count it, eV/A, from errors or deviations (n_atoms, 3).

    The root mean square over all components, or the least certain atom's over `WORST`, whichever is larger.
    """
    return max(float(np.sqrt(np.mean(forces**2))), least_certain(forces) / WORST)


@dataclass(frozen=True)
class ExpectedErrors:
    """How far a prediction is expected to be off, as a user counts it.

    Parameters
    ----------
    force : float
        Of the forces, eV/A; see `counted_error`.
    energy : float
        Of the energy per atom, eV/atom.
    stress : float or None
        Of the least certain component of the stress, eV/A^3; None without a three-dimensional cell.
    learnable : float or None
        As `force`, without the model's discrepancy, eV/A: what a label could take away; None where that is not known.
    """

    force: float
    energy: float
    stress: float | None
    learnable: float | None = None


def expected_errors(prediction: Prediction) -> ExpectedErrors:
    """Expected errors of a prediction that was made with its uncertainty."""
    stress, forces_std = prediction.stress_std, required(prediction.forces_std, "forces_std")
    open_squares = forces_std**2
    if prediction.forces_discrepancy is not None:
        open_squares = np.maximum(open_squares - prediction.forces_discrepancy**2, 0.0)
    return ExpectedErrors(
        force=counted_error(forces_std),
        learnable=counted_error(np.sqrt(open_squares)),
        energy=required(prediction.energy_std, "energy_std") / len(prediction.energies),
        stress=None if stress is None else float(stress.max()),
    )


def strongest_pair_forces(pairs: Pairs, pair_gradients: np.ndarray) -> np.ndarray:
    """(n_atoms,), eV/A, see `Prediction`, of dE/dvectors (n_pairs, 3); 0 without neighbours."""
    sizes = np.append(2.0 * np.sqrt(np.einsum("px,px->p", pair_gradients, pair_gradients)), 0.0)
    has_neighbours = np.diff(pairs.offsets) > 0
    return np.where(has_neighbours, np.maximum.reduceat(sizes, pairs.offsets[:-1]), 0.0)


def make_prediction(
    pairs: Pairs,
    volume: float | None,
    energies: np.ndarray,
    pair_gradients: np.ndarray,
    variances: Variances | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> Prediction:
    """A prediction from local energies (n_atoms,) in eV, pair gradients (n_pairs, 3) in eV/A and the volume in A^3."""
    virial = pairs.virial(pair_gradients)
    found: dict[str, Any] = {}
    if variances is not None:
        strongest = strongest_pair_forces(pairs, pair_gradients)
        deviations = variances.calibrated(calibration, pairs, strongest)
        virial_std = deviations.virial_std
        found = {
            "energies_std": deviations.energies_std,
            "energy_std": deviations.energy_std,
            "forces_std": deviations.forces_std,
            "forces_stated_std": deviations.forces_stated_std,
            "borrowed": deviations.borrowed,
            "forces_discrepancy": deviations.discrepancy,
            "stress_std": None if volume is None or virial_std is None else virial_std / volume,
            "novelty": deviations.novelty,
            "strongest": strongest,
        }
    return Prediction(
        energy=float(energies.sum()),
        energies=energies,
        forces=pairs.forces(pair_gradients),
        virial=virial,
        stress=None if volume is None else -virial / volume,
        **found,
    )
