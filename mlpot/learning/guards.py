"""Signs that a simulation has blown up: it must not go on, and its structures are not worth labelling."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from scipy.special import gammainccinv

from ..units import BOLTZMANN

HOT = 10.0
"""Largest allowed ratio to the highest temperature of the thermostat: equilibrium fluctuations of more than two atoms are smaller."""
RARE = 1e-12
"""Probability of a thermal fluctuation that counts as an explosion; it sets the larger fluctuations that small systems may have."""
COLD = 300.0
"""Smallest reference temperature, K: an initial structure that is not relaxed heats up by some hundreds of K."""
REACTION = 5.0
"""Energy that a chemical reaction may release, eV: it heats a small molecule by thousands of K."""
DOUBTFUL = 0.3
"""Fraction of the largest temperature above which no checkpoint is made, so that the last one is from before an explosion."""
FAR = 1.0
"""Largest displacement in one step, A; hydrogen at 3000 K moves by 0.2 A in 2 fs."""


def largest_temperature(reference: float, n_degrees: int) -> float:
    """The largest temperature (K) allowed in a simulation with `n_degrees` degrees of freedom.

    A kinetic energy of n degrees of freedom at the temperature T is kT/2 times a number from the chi-square distribution with n
    degrees of freedom, so small systems fluctuate by large factors.
    """
    factor = max(HOT, _chi_square_tail(n_degrees) / n_degrees)
    return factor * max(reference, COLD) + 2 * REACTION / (n_degrees * BOLTZMANN)


@cache
def _chi_square_tail(n_degrees: int) -> float:
    """The value that a chi-square distributed number exceeds with probability `RARE`."""
    return float(2 * gammainccinv(n_degrees / 2, RARE))


def is_doubtful(atoms: Atoms, reference: float) -> bool:
    """Whether the simulation may be about to blow up, judged by its temperature; `reference` as in `hot`."""
    return atoms.get_temperature() > DOUBTFUL * largest_temperature(reference, _n_degrees(atoms))


def hot(atoms: Atoms, reference: float) -> str | None:
    """Describe what is wrong with the temperature, or None; `reference` (K) is the highest of thermostat and initial structure."""
    temperature, bound = atoms.get_temperature(), largest_temperature(reference, _n_degrees(atoms))
    if temperature <= bound:
        return None
    return (
        f"the temperature is {temperature:.3g} K, more than the {bound:.3g} K that are possible after a highest temperature of "
        f"{reference:.3g} K"
    )


def _n_degrees(atoms: Atoms) -> int:
    return max(int(atoms.get_number_of_degrees_of_freedom()), 1)


def jumped(positions: np.ndarray, cell: np.ndarray, atoms: Atoms) -> str | None:
    """Describe what is wrong with a step from `positions` (n_atoms, 3) and `cell` (3, 3), A, to the atoms as they are; or None."""
    now = atoms.cell.array
    if not (cell == now).all() and np.isfinite(now).all() and atoms.cell.rank == 3:
        positions = positions @ np.linalg.solve(cell, now)  # a barostat moves all atoms along
    moved = atoms.positions - positions
    squares = np.einsum("ij,ij->i", moved, moved)
    if squares.max() <= FAR**2:  # false for NaN
        return None
    if not (np.isfinite(squares).all() and np.isfinite(now).all()):
        return "positions or cell are not finite"
    distances = np.sqrt(squares)
    farthest = int(distances.argmax())
    return f"atom {farthest} ({atoms.symbols[farthest]}) has moved {distances[farthest]:.3g} A in one step"


def flown(atoms: Atoms, reference: float, cutoff: float) -> str | None:
    """An atom that flies away (no neighbour within `cutoff`, A, moving away, impossible kinetic energy), or None."""
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
