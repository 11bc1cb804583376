"""Predicted standard deviations made as large as the errors that occur.

With the raw deviation s of a quantity and its error e,

    sigma^2 = a^2 s^2 + b^2        minimise  sum  log sigma + rho(e / sigma),
    rho(z) = z^2 / 2  for |z| <= k,   k^2 (1/2 + log |z / k|)  beyond

so that a wrong label counts no more than an error of k deviations. Force components that symmetry makes zero are left out.
Robust likelihoods: Huber, Ann. Math. Stat. 35, 73 (1964), doi:10.1214/aoms/1177703732; variance scaling of ensembles: Musil, Willatt,
Langovoy, Ceriotti, J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

LEAST_FLOOR = 1e-3
"""Of forces, eV/A: no model is better than that."""
SYMMETRIC = 1e-6
"""Raw deviations of forces (eV/A) below this are rounding: symmetry makes the force zero, and its error says nothing."""
BEYOND = 2.0
"""Errors of more deviations count as these do. With 2, errors of structures left out lie within one deviation as often as normal
ones: forces 0.68 (Si) and 0.67 (Mo), total energies 0.69 and 0.70."""
N_BINS, LEAST_IN_BIN = 10, 5
FEWEST = 10
"""Errors that a scale is fitted to at least."""


@dataclass(frozen=True)
class Calibration:
    """How raw standard deviations relate to errors that occurred.

    Parameters
    ----------
    force_scale, energy_scale : float
        Multiply the raw deviations.
    force_floor : float
        eV/A, added in squares to those of forces.
    n_forces, n_energies : int
        Errors that it was fitted to: force components, total energies. 0: not calibrated.
    stress_scale : float
        Multiplies the deviations of the stress.
    of_elements : mapping of int to float
        Further factors on the deviations of the forces on atoms of an element, floor included; 1 where there is none.
    """

    force_scale: float = 1.0
    force_floor: float = 0.0
    energy_scale: float = 1.0
    n_forces: int = 0
    n_energies: int = 0
    stress_scale: float = 1.0
    of_elements: Mapping[int, float] = field(default_factory=dict)

    def forces_std(self, raw: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """Calibrated deviations of raw ones (n_atoms, 3), eV/A, of atoms of these elements (n_atoms,)."""
        both = np.sqrt((self.force_scale * raw) ** 2 + self.force_floor**2)
        return both if numbers is None else both * self.element_factors(numbers)[:, None]

    def element_factors(self, numbers: np.ndarray) -> np.ndarray:
        """Factors (n_atoms,) of `of_elements`."""
        return np.array([self.of_elements.get(z, 1.0) for z in numbers.tolist()])

    def uncertain(self, forces_std: np.ndarray) -> np.ndarray:
        """Mask of the calibrated deviations, eV/A, that belong to components which no symmetry makes zero."""
        return self.raw_forces_std(forces_std) > SYMMETRIC

    def raw_forces_std(self, forces_std: np.ndarray) -> np.ndarray:
        """Inverse of `forces_std`: what an uncalibrated model would have said."""
        return np.sqrt(np.maximum(forces_std**2 - self.force_floor**2, 0.0)) / self.force_scale


UNCALIBRATED = Calibration()


def fit_calibration(
    force_errors: np.ndarray, forces_std: np.ndarray, energy_errors: np.ndarray, energy_std: np.ndarray
) -> Calibration:
    """The calibration under which errors are most likely.

    Where one kind of label has too few errors its scale is that of the other: they are nearly the same.

    Parameters
    ----------
    force_errors, forces_std : (n, 3) arrays
        Predicted minus labelled and raw deviations, eV/A.
    energy_errors, energy_std : (n,) arrays
        Of total energies, eV.
    """
    told = forces_std > SYMMETRIC
    errors, raw = force_errors[told], forces_std[told]
    n_forces, n_energies = len(errors), len(energy_errors)
    forces = _likeliest(errors, raw, LEAST_FLOOR) if n_forces >= FEWEST else None
    energies = _likeliest(energy_errors, energy_std, 0.0) if n_energies >= FEWEST else None
    if forces is None and energies is None:
        return UNCALIBRATED
    energy_scale = (energies or forces)[0]  # type: ignore[index]
    force_scale, floor = forces or (energy_scale, LEAST_FLOOR)
    return Calibration(
        float(force_scale), float(floor), float(energy_scale),
        n_forces if forces else 0, n_energies if energies else 0,
    )  # fmt: skip


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


def _likeliest(errors: np.ndarray, raw: np.ndarray, least_floor: float) -> tuple[float, float] | None:
    """a and b, b at least `least_floor` (0: no floor); None where nothing was uncertain."""
    size = np.sqrt(np.mean(raw**2))
    if not size > 0:
        return None
    squares, sizes = raw**2, np.abs(errors)

    def surprise(logarithms: np.ndarray) -> float:
        floor = np.exp(2 * logarithms[1]) if least_floor else 1e-12 * size**2
        variances = np.exp(2 * logarithms[0]) * squares + floor
        z = sizes / np.sqrt(variances)
        losses = np.where(z < BEYOND, 0.5 * z**2, BEYOND**2 * (0.5 + np.log(np.maximum(z, BEYOND) / BEYOND)))
        return float(np.mean(0.5 * np.log(variances) + losses))

    typical = float(np.median(sizes)) + 1e-300
    lowest = np.log(least_floor) if least_floor else 0.0
    start = [np.log(max(np.sqrt(np.mean(errors**2)), 1e-12) / size), max(np.log(typical), lowest)]
    bounds = [(start[0] - 10, start[0] + 10), (lowest, max(start[1], lowest) + 3)]
    found = minimize(surprise, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-4, "fatol": 1e-9})
    return float(np.exp(found.x[0])), float(np.exp(found.x[1])) if least_floor else 0.0
