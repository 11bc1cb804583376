"""Signs that a simulation has blown up: it must not go on, and what it does now is not worth a label."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from scipy.special import gammainccinv

from ..units import BOLTZMANN

HOT = 10.0
"""Times the highest temperature that the thermostat has had: no equilibrium fluctuation of more than two atoms is so large."""
RARE = 1e-12
"""Probability of a thermal fluctuation that is taken for an explosion: what smaller systems are allowed follows from it."""
COLD = 300.0
"""A thermostat below this is treated as this one, K: a start that is not relaxed heats up by some hundreds of K."""
REACTION = 5.0
"""Energy that a chemical reaction may set free, eV; it heats up a small molecule by thousands of K."""
DOUBTFUL = 0.3
"""Part of the largest temperature from which on no checkpoint is made: the last one should be from before the explosion."""
FAR = 1.0
"""Largest distance of one step, A; hydrogen at 3000 K moves by 0.2 A in 2 fs."""


def largest_temperature(reference: float, n_degrees: int) -> float:
    """The largest temperature (K) that a simulation of so many degrees of freedom may have.

    A kinetic energy of n degrees of freedom at the temperature T is kT/2 times a number from the chi-square distribution with n
    degrees of freedom, so small systems fluctuate by large factors.
    """
    factor = max(HOT, _chi_square_tail(n_degrees) / n_degrees)
    return factor * max(reference, COLD) + 2 * REACTION / (n_degrees * BOLTZMANN)


@cache
def _chi_square_tail(n_degrees: int) -> float:
    """What a chi-square distributed number exceeds with the probability `RARE`."""
    return float(2 * gammainccinv(n_degrees / 2, RARE))


def is_doubtful(atoms: Atoms, reference: float) -> bool:
    """Whether the temperature may be the beginning of an explosion; `reference` as in `hot`."""
    return atoms.get_temperature() > DOUBTFUL * largest_temperature(reference, _n_degrees(atoms))


def hot(atoms: Atoms, reference: float) -> str | None:
    """What is wrong with the temperature, or None; `reference` (K) is the highest of the thermostat and the start so far."""
    temperature, bound = atoms.get_temperature(), largest_temperature(reference, _n_degrees(atoms))
    if temperature <= bound:
        return None
    return (
        f"the temperature is {temperature:.3g} K, where a simulation that has been at {reference:.3g} K cannot have more than "
        f"{bound:.3g} K"
    )


def _n_degrees(atoms: Atoms) -> int:
    return max(int(atoms.get_number_of_degrees_of_freedom()), 1)


def jumped(positions: np.ndarray, cell: np.ndarray, atoms: Atoms) -> str | None:
    """What is wrong with a step from `positions` (n_atoms, 3) and `cell` (3, 3), in A, to those of the atoms, or None."""
    now = atoms.cell.array
    if not (cell == now).all() and np.isfinite(now).all() and atoms.cell.rank == 3:
        positions = positions @ np.linalg.solve(cell, now)  # a barostat moves all atoms along
    moved = atoms.positions - positions
    squares = np.einsum("ij,ij->i", moved, moved)
    if squares.max() <= FAR**2:  # not of numbers that are not finite
        return None
    if not (np.isfinite(squares).all() and np.isfinite(now).all()):
        return "positions or cell are not finite"
    distances = np.sqrt(squares)
    farthest = int(distances.argmax())
    return f"atom {farthest} ({atoms.symbols[farthest]}) has moved {distances[farthest]:.3g} A in one step"


def flown(atoms: Atoms, reference: float, cutoff: float) -> str | None:
    """Which atom flies away: alone within `cutoff` (A), ever farther, with an energy that it cannot have by chance; or None."""
    if len(atoms) < 2:
        return None
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    energies = 0.5 * np.einsum("ij,ij->i", momenta, momenta) / masses
    bound = 0.5 * _chi_square_tail(3) * BOLTZMANN * max(reference, COLD)
    if energies.max() <= bound:
        return None
    velocities = momenta / masses[:, None]
    for k in np.flatnonzero(energies > bound).tolist():
        others = [j for j in range(len(atoms)) if j != k]
        vectors = atoms.get_distances(k, others, mic=True, vector=True)
        distances = np.linalg.norm(vectors, axis=1)
        nearest = int(distances.argmin())
        parting = vectors[nearest] @ (velocities[others[nearest]] - velocities[k])
        if distances[nearest] > cutoff and parting > 0:
            return (
                f"atom {k} ({atoms.symbols[k]}) flies away: {distances[nearest]:.3g} A from all others, with a kinetic energy of "
                f"{energies[k]:.3g} eV"
            )
    return None
