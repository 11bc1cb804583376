"""Errors that a label showed, beside the deviations that a model stated by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..uncertainty.calibration import POWER, SYMMETRIC

WILD = 5.0
"""Errors beyond this multiple of what is usual count as that: among normal ones 6e-7 are."""
NORMAL_MEDIAN = 0.6745
"""Median of |z| of normal errors."""


@dataclass(frozen=True)
class Seen:
    """Errors of one kind of number in one label against the model's own deviations.

    Parameters
    ----------
    n : int
        Components that no symmetry makes zero.
    error, deviation : float
        Root mean squares, in the unit of the number.
    z2 : float
        Robust mean square of error / deviation.
    """

    n: int
    error: float
    deviation: float
    z2: float

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray, least: float = 0.0) -> Seen | None:
        """Of components with deviations above `least`; None where there are none."""
        told = deviations > least
        if not told.any():
            return None
        errors, deviations = errors[told], deviations[told]
        z = np.abs(errors / deviations)
        cap = WILD * np.median(z) / NORMAL_MEDIAN
        rms = float(np.sqrt(np.mean(errors**2))), float(np.sqrt(np.mean(deviations**2)))
        return cls(len(z), *rms, float(np.mean(np.minimum(z, cap) ** 2)))


@dataclass(frozen=True)
class SeenForces:
    """Errors of the forces on atoms of one element in one label, in bins of similar deviations and forces.

    The many atoms of which deviation and force are both small are one bin. Of all others, those that are rather uncertain and those
    that a neighbour pushes rather hard make bins apart, each with the larger half of what those before it have left: the few that are
    least certain, such as the metal atoms under a molecule, are seen beside the many that are known.

    Parameters
    ----------
    sizes : (n_bins,) tuple of int
        Components that no symmetry makes zero.
    errors, deviations : (n_bins,) tuples of float
        Root mean squares, eV/A; single atoms do not decide, see `WILD`.
    strongest : (n_bins,) tuple of float
        Strongest force between an atom and a neighbour, eV/A; root mean square of the third powers, and of that the third root.
    """

    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    deviations: tuple[float, ...]
    strongest: tuple[float, ...]

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray, strongest: np.ndarray) -> SeenForces | None:
        """Of atoms (n_atoms, 3) and (n_atoms,), eV/A; None where symmetry makes all components zero."""
        told = deviations > SYMMETRIC
        counts = told.sum(axis=1)
        atoms = np.flatnonzero(counts)
        if not len(atoms):
            return None
        error, deviation = (
            np.sqrt(np.sum(np.where(told, x, 0.0)[atoms] ** 2, axis=1) / counts[atoms]) for x in (errors, deviations)
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
    def restore(cls, state: Mapping[str, Any]) -> SeenForces:
        """Of what JSON has made of it."""
        return cls(**{name: tuple(values) for name, values in state.items()})


def compared(
    errors: np.ndarray, deviations: np.ndarray, strongest: np.ndarray, numbers: np.ndarray
) -> dict[int, SeenForces]:
    """Force errors and deviations (n_atoms, 3) and strongest forces (n_atoms,), eV/A, of the atoms of each element."""
    found = {}
    for z in np.unique(numbers).tolist():
        own = numbers == z
        found[z] = SeenForces.of(errors[own], deviations[own], strongest[own])
    return {z: seen for z, seen in found.items() if seen is not None}


def _bins(deviations: np.ndarray, powers: np.ndarray) -> list[np.ndarray]:
    """Atoms of each bin: those small in both, then those high in the ranks of the one and of the other, see `SeenForces`."""
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
    """Error of the worst atom over its deviation, both root mean squares of its components, of (n_atoms, 3), eV/A."""
    errors, deviations = (np.sqrt(np.mean(x**2, axis=1)) for x in (errors, deviations))
    worst = int(np.argmax(errors))
    return float(errors[worst] / max(deviations[worst], SYMMETRIC))
