"""Predictions of a model for a structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import counted, required
from ..neighbours import Pairs
from ..terms.calculator_baseline import BaselineResults
from ..uncertainty.calibration import UNCALIBRATED, Calibration
from ..uncertainty.variances import NoveltyAlone, Variances
from .tensors import TargetValues, attribute_of

NO_VALUES = TargetValues()
WORST = 3.0
"""Allowed ratio of the uncertainty of the least certain atom to the target, which refers to the root mean square over all atoms. It
is the expected ratio for about twenty atoms with normal errors. With a ratio of 1, runs requested labels until they were three to
eight times more accurate than their targets."""


@dataclass(frozen=True)
class Prediction:
    """Energy, forces and stress with their uncertainty, in ASE's units.

    Parameters
    ----------
    energy : float
        Total energy, eV.
    energies : (n_atoms,) array
        Local energies, eV; they add up to `energy`.
    forces : (n_atoms, 3) array
        Forces, eV/A.
    virial : (3, 3) array
        -dE/dstrain, eV.
    stress : (3, 3) array or None
        -virial / volume, eV/A^3; None without a three-dimensional cell.
    energies_std : (n_atoms,) array or None
        Standard deviations of the local energies, eV; None unless asked for.
    energy_std : float or None
        Standard deviation of the total energy, eV, including correlations between atoms; None unless asked for.
    forces_std : (n_atoms, 3) array or None
        Standard deviations of the forces, eV/A; None unless asked for, and for imported models.
    forces_stated_std : (n_atoms, 3) array or None
        Standard deviations before calibration and without the contribution of uncertain forces on neighbours, eV/A.
    borrowed : (n_atoms,) bool array or None
        Whether `forces_std` of an atom is mostly its share of the uncertainty of a neighbour; its own error is then hardly known.
    forces_discrepancy : (n_atoms, 3) array or None
        The part of `forces_std` (in quadrature) that labels of these atoms could not reduce, since this kind of model cannot
        explain it, eV/A. None whenever `forces_std` is None.
    stress_std : (3, 3) array or None
        Standard deviations of the stress, eV/A^3; None unless asked for, without a three-dimensional cell, and for imported models.
    novelty : (n_atoms,) array or None
        Distance of environments from all sparse points: the unexplained prior standard deviation, divided by its value at
        environments that count as known. About 1 or less for known environments, independent of the calibration; see `NOVEL`. None
        unless asked for, and for imported models without reference structures.
    strongest : (n_atoms,) array or None
        Strongest force between an atom and a neighbour, eV/A: twice the contribution of its own local energy. None unless
        uncertainties are asked for.
    targets : TargetValues
        Quantities learned besides energies, by name; attributes such as `dipole`, `dipole_std`, `born_charges` are shorter.
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
    targets: TargetValues = NO_VALUES

    def __getattr__(self, name: str) -> Any:
        targets = self.__dict__.get("targets", NO_VALUES)
        if name.startswith("__") or not (found := attribute_of(targets, name)):
            raise AttributeError(f"a prediction has no {name!r}; targets of the model: {', '.join(targets) or 'none'}")
        return found[0]

    def __repr__(self) -> str:
        parts = [f"{counted(len(self.energies), 'atom')}", f"energy {self.energy:.6g} eV"]
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
    """Mapping with the available uncertainties of a prediction; empty if it was made without.

    Keys are "energies_std" (n_atoms,) and "energy_std" in eV, "forces_std" (n_atoms, 3) in eV/A, "stress_std" (3, 3) in eV/A^3 and
    "novelty" (n_atoms,).
    """

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
    """Expected error of a component of the least certain force, eV/A, from standard deviations (n_atoms, 3)."""
    return float(np.sqrt(np.max(np.mean(forces_std**2, axis=1))))


def counted_error(forces: np.ndarray) -> float:
    """Force error as used in targets and thresholds, eV/A, from errors or standard deviations (n_atoms, 3).

    The root mean square over all components, or the value of the least certain atom divided by `WORST`, whichever is larger.
    """
    return max(float(np.sqrt(np.mean(forces**2))), least_certain(forces) / WORST)


@dataclass(frozen=True)
class ExpectedErrors:
    """Expected errors of a prediction, in the quantities for which users set targets.

    Parameters
    ----------
    force : float
        Expected error of the forces, eV/A; see `counted_error`.
    energy : float
        Expected error of the energy per atom, eV/atom.
    stress : float or None
        Expected error of the least certain stress component, eV/A^3; None without a three-dimensional cell.
    learnable : float or None
        As `force`, without the model discrepancy, eV/A: the part that a label could reduce; None if not known.
    dipole : float or None
        Expected error of a component of the dipole (root mean square), e A; None where it does not count.
    """

    force: float
    energy: float
    stress: float | None
    learnable: float | None = None
    dipole: float | None = None


def expected_errors(prediction: Prediction) -> ExpectedErrors:
    """Expected errors of a prediction made with uncertainty."""
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


def raised(p: Prediction, beneath: BaselineResults | None, volume: float | None) -> Prediction:
    """A prediction of differences on top of the calculator's results; local energies get equal shares of its energy."""
    if beneath is None:
        return p
    virial = p.virial + beneath.virial
    return replace(
        p,
        energy=p.energy + beneath.energy,
        energies=p.energies + beneath.energy / max(len(p.energies), 1),
        forces=p.forces + beneath.forces,
        virial=virial,
        stress=None if volume is None else -virial / volume,
    )


def strongest_pair_forces(pairs: Pairs, pair_gradients: np.ndarray) -> np.ndarray:
    """Strongest pair force on each atom (n_atoms,), eV/A, from dE/dvectors (n_pairs, 3); 0 without neighbours. See `Prediction`."""
    sizes = np.append(2.0 * np.sqrt(np.einsum("px,px->p", pair_gradients, pair_gradients)), 0.0)
    has_neighbours = np.diff(pairs.offsets) > 0
    return np.where(has_neighbours, np.maximum.reduceat(sizes, pairs.offsets[:-1]), 0.0)


def make_prediction(
    pairs: Pairs,
    volume: float | None,
    energies: np.ndarray,
    pair_gradients: np.ndarray,
    variances: Variances | NoveltyAlone | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> Prediction:
    """Make a prediction from local energies (n_atoms,) in eV, pair gradients (n_pairs, 3) in eV/A and the volume in A^3."""
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
