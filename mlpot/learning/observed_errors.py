"""Errors that a label has shown, and the uncalibrated standard deviations that the model had predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..uncertainty.calibration import POWER, SYMMETRIC

WILD = 5.0
"""Errors are winsorised at this multiple of the usual error, beyond which 6e-7 of normally distributed errors are."""
NORMAL_MEDIAN = 0.6745
"""Median of |z| of normal errors."""


@dataclass(frozen=True)
class ObservedErrors:
    """Errors of the energy or the stress in one label, and the model's own deviations.

    Parameters
    ----------
    n : int
        Number of components that are not zero by symmetry.
    error, deviation : float
        Root mean squares, in eV or eV/A^3.
    z2 : float
        Robust mean square of error / deviation.
    """

    n: int
    error: float
    deviation: float
    z2: float

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray, least: float = 0.0) -> ObservedErrors | None:
        """From the components with deviations above `least`; None if there are none."""
        is_free = deviations > least
        if not is_free.any():
            return None
        errors, deviations = errors[is_free], deviations[is_free]
        z = np.abs(errors / deviations)
        cap = WILD * np.median(z) / NORMAL_MEDIAN
        rms = float(np.sqrt(np.mean(errors**2))), float(np.sqrt(np.mean(deviations**2)))
        return cls(len(z), *rms, float(np.mean(np.minimum(z, cap) ** 2)))


@dataclass(frozen=True)
class ObservedForces:
    """Errors of the forces on the atoms of one element in one label, in bins of similar deviations and forces.

    One bin holds the many atoms for which both the deviation and the strongest force of a neighbour are small. The other atoms
    are split into those that rank higher by deviation and those that rank higher by force; each group is split into bins that
    take half of the remaining atoms, from lower to higher ranks. So the few least certain atoms, such as the metal atoms under a
    molecule, have a bin of their own.

    Parameters
    ----------
    sizes : (n_bins,) tuple of int
        Number of components that are not zero by symmetry.
    errors, deviations : (n_bins,) tuples of float
        Root mean squares, eV/A, winsorised by `WILD`.
    strongest : (n_bins,) tuple of float
        Strongest force between an atom and a neighbour, eV/A: the cube root of the root mean square of its cube.
    """

    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    deviations: tuple[float, ...]
    strongest: tuple[float, ...]

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray, strongest: np.ndarray) -> ObservedForces | None:
        """From arrays (n_atoms, 3) and (n_atoms,), eV/A; None if all components are zero by symmetry."""
        is_free = deviations > SYMMETRIC
        counts = is_free.sum(axis=1)
        atoms = np.flatnonzero(counts)
        if not len(atoms):
            return None
        error, deviation = (
            np.sqrt(np.sum(np.where(is_free, x, 0.0)[atoms] ** 2, axis=1) / counts[atoms]) for x in (errors, deviations)
        )
        powers = strongest[atoms] ** POWER
        bins = []
        for part in _bins(deviation, powers):
            z = error[part] / deviation[part]
            tame = np.minimum(z, WILD * np.median(z)) * deviation[part]
            weights = counts[atoms][part] / counts[atoms][part].sum()
            error_rms, deviation_rms, power = (
                float(np.sqrt(weights @ x**2)) for x in (tame, deviation[part], powers[part])
            )
            bins.append((int(counts[atoms][part].sum()), error_rms, deviation_rms, power ** (1 / POWER)))
        return cls(*zip(*bins, strict=True))

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> ObservedForces:
        """From lists, as JSON returns them."""
        return cls(**{name: tuple(values) for name, values in state.items()})


def compared(
    errors: np.ndarray, deviations: np.ndarray, strongest: np.ndarray, numbers: np.ndarray
) -> dict[int, ObservedForces]:
    """Force errors of each element, from errors and deviations (n_atoms, 3) and strongest forces (n_atoms,), eV/A."""
    found = {}
    for z in np.unique(numbers).tolist():
        own = numbers == z
        found[z] = ObservedForces.of(errors[own], deviations[own], strongest[own])
    return {z: seen for z, seen in found.items() if seen is not None}


def _bins(deviations: np.ndarray, powers: np.ndarray) -> list[np.ndarray]:
    """Indices of the atoms in each bin, see `ObservedForces`."""
    n = len(deviations)
    ranks = np.array([np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (deviations, powers)])
    highest = ranks.max(axis=0)
    bulk = highest < (n + 1) // 2
    parts = [np.flatnonzero(bulk)]
    for own in (~bulk & (ranks[0] >= ranks[1]), ~bulk & (ranks[0] < ranks[1])):
        members = np.flatnonzero(own)
        members = members[np.argsort(highest[members], kind="stable")]
        while len(members) > 1:
            middle = (len(members) + 1) // 2
            parts.append(members[:middle])
            members = members[middle:]
        parts.append(members)
    return [part for part in parts if len(part)]


def worst_ratio(errors: np.ndarray, deviations: np.ndarray) -> float:
    """Ratio of error to deviation for the atom with the largest error, from arrays (n_atoms, 3), eV/A; root mean squares."""
    errors, deviations = (np.sqrt(np.mean(x**2, axis=1)) for x in (errors, deviations))
    worst = int(np.argmax(errors))
    return float(errors[worst] / max(deviations[worst], SYMMETRIC))
