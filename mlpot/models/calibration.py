"""Predicted standard deviations made as large as the errors that occur.

The deviation s that a model states (what its data leave open and its discrepancy together, see `variances`) and the error e give a
factor a for every kind of prediction, for forces on every element:

    sigma = a s        minimise  n <log sigma + rho(e / sigma)> + (log a)^2 / (2 w^2),
    rho(z) = z^2 / 2  for |z| <= k,   k^2 (1/2 + log |z / k|)  beyond

with n structures of which errors are known (those of one structure are not independent of each other) and a prior of width w
about a = 1: a wrong label counts no more than an error of k deviations, and a single structure hardly anything. Force components
that symmetry makes zero are left out. Robust likelihoods: Huber, Ann. Math. Stat. 35, 73 (1964), doi:10.1214/aoms/1177703732;
variance scaling of ensembles: Musil, Willatt, Langovoy, Ceriotti, J. Chem. Theory Comput. 15, 906 (2019),
doi:10.1021/acs.jctc.8b00959.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from scipy.optimize import minimize_scalar

SYMMETRIC = 1e-6
"""Deviations of forces (eV/A) below this are round-off: symmetry makes the force zero, and its error says nothing."""
BEYOND = 2.0
"""Errors of more deviations count as these do. With 2, errors of structures left out lie within one deviation as often as normal
ones: forces 0.68 (Si) and 0.67 (Mo), total energies 0.69 and 0.70."""
WIDTH = 0.7
"""w: without errors a model's own deviations are right within a factor of two."""
N_BINS, LEAST_IN_BIN = 10, 5
FEWEST = 10
"""Errors that a scale is fitted to at least."""
FEWEST_OF_ELEMENT = 30
"""Force components that an element's own scale is fitted to at least."""


@dataclass(frozen=True)
class Calibration:
    """Factors between the deviations that a model states and errors that occurred.

    Parameters
    ----------
    force_scale : float
        For forces on atoms of all elements that have no factor of their own.
    energy_scale, stress_scale : float
        For energies, local ones too, and for stresses and virials.
    of_elements : mapping of int to float
        For forces on atoms of an element, in place of `force_scale`.
    n_forces, n_energies : int
        Errors that it was fitted to: force components, total energies. 0: not calibrated.
    """

    force_scale: float = 1.0
    energy_scale: float = 1.0
    stress_scale: float = 1.0
    of_elements: Mapping[int, float] = field(default_factory=dict)
    n_forces: int = 0
    n_energies: int = 0

    def forces_std(self, stated: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Calibrated deviations of stated ones (n_atoms, 3), eV/A, of atoms of these elements (n_atoms,)."""
        return stated * self.element_factors(numbers)[:, None]

    def described(self) -> str:
        """For people."""
        forces = {chemical_symbols[z]: factor for z, factor in self.of_elements.items()} or {"all": self.force_scale}
        parts = ", ".join(f"{factor:.3g} ({name})" for name, factor in forces.items())
        return f"{parts} for forces, {self.energy_scale:.3g} for energies, {self.stress_scale:.3g} for stresses"

    def element_factors(self, numbers: np.ndarray) -> np.ndarray:
        """Factors (n_atoms,) for the forces on atoms of these elements."""
        return np.array([self.of_elements.get(z, self.force_scale) for z in numbers.tolist()])


UNCALIBRATED = Calibration()


@dataclass(frozen=True)
class ErrorsAndDeviations:
    """Errors (n,) that occurred, predicted minus labelled, and the deviations (n,) that were stated.

    Parameters
    ----------
    errors, deviations : (n,) arrays
        eV/A, eV or eV/A^3.
    numbers : (n,) int array or None
        Elements of the atoms, for forces.
    n_structures : int
        That they come from.
    """

    errors: np.ndarray
    deviations: np.ndarray
    numbers: np.ndarray | None = None
    n_structures: int = 1


def fit_calibration(
    forces: ErrorsAndDeviations, energies: ErrorsAndDeviations, stresses: ErrorsAndDeviations
) -> Calibration:
    """The calibration under which errors of force components, total energies and stress components are most likely.

    Where one kind of label has too few errors its scale is that of the others: they are nearly the same.
    """
    told = forces.deviations > SYMMETRIC
    errors, stated = forces.errors[told], forces.deviations[told]
    numbers = np.zeros(len(told), int) if forces.numbers is None else forces.numbers
    of_forces, of_energies, of_stresses = (
        _likeliest(found, deviations, kind.n_structures) if len(found) >= FEWEST else None
        for kind, found, deviations in (
            (forces, errors, stated),
            (energies, energies.errors, energies.deviations),
            (stresses, stresses.errors, stresses.deviations),
        )
    )
    known = [scale for scale in (of_forces, of_energies, of_stresses) if scale is not None]
    if not known:
        return UNCALIBRATED
    present, counts = np.unique(numbers[told], return_counts=True)
    of_elements = {
        int(z): _likeliest(errors[numbers[told] == z], stated[numbers[told] == z], forces.n_structures) or 1.0
        for z, count in zip(present, counts, strict=True) if z and count >= FEWEST_OF_ELEMENT
    }  # fmt: skip
    return Calibration(
        force_scale=of_forces or known[0],
        energy_scale=of_energies or known[0],
        stress_scale=of_stresses or known[0],
        of_elements=of_elements,
        n_forces=len(errors) if of_forces else 0,
        n_energies=len(energies.errors) if of_energies else 0,
    )


def expected_normalised_error(errors: np.ndarray, deviations: np.ndarray) -> float:
    """Mean over bins of equal size in the order of the deviations of |rms deviation - rms error| / rms deviation.

    0 where errors are as large as predicted at every size. Levi, Gispan, Giladi, Fetaya, Sensors 22, 5540 (2022),
    doi:10.3390/s22155540.
    """
    predicted, found = binned(errors, deviations)
    return float(np.mean(np.abs(predicted - found) / predicted))


def binned(errors: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of deviations and of errors (n_bins,) in bins of equal size, in the order of the deviations."""
    n_bins = min(N_BINS, max(len(errors) // LEAST_IN_BIN, 1))
    bins = np.array_split(np.argsort(deviations, kind="stable"), n_bins)
    squares = np.array([[np.mean(deviations[b] ** 2), np.mean(errors[b] ** 2)] for b in bins])
    return np.sqrt(squares[:, 0]), np.sqrt(squares[:, 1])


def coverage(errors: np.ndarray, deviations: np.ndarray, n_sigma: float) -> float:
    """Part of the errors that is no larger than so many standard deviations."""
    return float(np.mean(np.abs(errors) <= n_sigma * deviations))


def _likeliest(errors: np.ndarray, stated: np.ndarray, n_structures: int) -> float | None:
    """The factor a; None where nothing was uncertain."""
    known = stated > 0
    if not np.any(known):
        return None
    ratios = np.abs(errors[known]) / stated[known]
    start = float(np.log(max(np.sqrt(np.mean(ratios**2)), 1e-12)))

    def surprise(logarithm: float) -> float:
        z = ratios / np.exp(logarithm)
        losses = np.where(z < BEYOND, 0.5 * z**2, BEYOND**2 * (0.5 + np.log(np.maximum(z, BEYOND) / BEYOND)))
        return n_structures * (logarithm + float(np.mean(losses))) + 0.5 * (logarithm / WIDTH) ** 2

    # the minimum lies between what the errors say, which wild ones only raise, and what the prior says
    bounds = (min(start - 7, -1.0), max(start, 0.0) + 1)
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))
