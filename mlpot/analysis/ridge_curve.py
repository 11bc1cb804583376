"""The learning curve of a linear model on features: errors of energies against the number of structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from ..errors import DataError, counted
from ..structures import energy_of, is_isolated_atom
from .subject import Subject

PARTS = (0.1, 0.2, 0.4, 0.7, 1.0)
HELD_OUT = 0.25
FEWEST = 8
"""Structures with energies, below which there is no curve."""
PENALTIES = np.geomspace(1e-8, 1e2, 21)
"""Penalties of the ridge, in units of the largest squared singular value, divided by the number of structures."""

LEAST = 0.01
"""Smallest deviation, in units of the largest, by which a feature is divided: features that hardly vary are not amplified."""


def learning_curve(
    subject: Subject,
    frames: Sequence[Atoms],
    seed: int = 0,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], ...]:
    """Errors of energies per atom of a ridge regression on sums of features.

    Atoms of each element have weights of their own. A least-squares fit to the composition is subtracted first. The penalty is chosen
    by leave-one-out errors of the training structures. A quarter of the structures is held out for testing.

    Parameters
    ----------
    subject : Subject
    frames : sequence of ase.Atoms
        With energies; structures without one, and isolated atoms, are left out.
    show : callable
        Progress.

    Returns
    -------
    tuple of dict
        `n_structures`, `energy_rmse_mev_per_atom`, `energy_mae_mev_per_atom`, `training_rmse_mev_per_atom`, and
        `composition_rmse_mev_per_atom`, of the composition alone.

    Raises
    ------
    DataError
        For fewer than `FEWEST` structures with energies.
    """
    known = [a for a in frames if not is_isolated_atom(a) and a.calc is not None and energy_of(a.calc.results) is not None]
    if len(known) < FEWEST:
        raise DataError(f"{counted(len(known), 'structure')} with an energy; a learning curve needs at least {FEWEST}")
    features = []
    for done, atoms in enumerate(known):
        features.append(_by_element(subject, atoms))
        show(done + 1, len(known))
    width = min(f.shape[1] for f in features)
    x = np.array([f[:, :width].ravel() for f in features])
    y = np.array([float(energy_of(a.calc.results) or 0.0) / len(a) for a in known])
    fractions = np.array([[np.mean(a.numbers == z) for z in subject.species] for a in known])
    order = np.random.default_rng(seed).permutation(len(known))
    n_test = max(int(HELD_OUT * len(known)), 2)
    test, training = order[:n_test], order[n_test:]
    points = []
    for part in PARTS:
        own = training[: max(round(part * len(training)), 4)]
        points.append(_point(x, y, fractions, own, test))
    return tuple(points)


def slope(points: Sequence[dict[str, Any]]) -> float | None:
    """Exponent with which the error falls with the number of structures; None without errors to compare."""
    n = np.array([p["n_structures"] for p in points], float)
    errors = np.array([p["energy_rmse_mev_per_atom"] for p in points])
    if len(points) < 2 or not np.all(errors > 0) or n.min() == n.max():
        return None
    return float(np.polyfit(np.log(n), np.log(errors), 1)[0])


def _by_element(subject: Subject, atoms: Atoms) -> np.ndarray:
    """Sums of features over the atoms of every element, divided by the number of atoms, (n_species, n_features)."""
    found = subject.compute(atoms)
    if len(found) != len(atoms):
        return found  # of the whole structure
    return np.array([found[atoms.numbers == z].sum(axis=0) for z in subject.species]) / len(atoms)


def _point(x: np.ndarray, y: np.ndarray, fractions: np.ndarray, own: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    shares = np.linalg.lstsq(fractions[own], y[own], rcond=None)[0]
    rest = y - fractions @ shares
    mean, deviation = x[own].mean(axis=0), x[own].std(axis=0)
    scaled = (x - mean) / np.maximum(deviation, max(LEAST * float(deviation.max(initial=0.0)), 1e-300))
    predicted = _ridge(scaled[own], rest[own], scaled)
    errors = 1e3 * (predicted - rest)
    return {
        "n_structures": len(own),
        "energy_rmse_mev_per_atom": _root(errors[test]),
        "energy_mae_mev_per_atom": float(np.mean(np.abs(errors[test]))),
        "training_rmse_mev_per_atom": _root(errors[own]),
        "composition_rmse_mev_per_atom": _root(1e3 * rest[test]),
    }


def _root(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _ridge(x: np.ndarray, y: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    """Predictions at all rows of `everywhere`, with the penalty of the smallest leave-one-out error."""
    middle = float(y.mean())
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    along = u.T @ (y - middle)
    best, weights = np.inf, np.zeros(x.shape[1])
    for penalty in PENALTIES * max(float(s.max(initial=0.0)) ** 2, 1e-300) / len(x):
        shrunk = s**2 / (s**2 + penalty)
        residual = y - middle - u @ (shrunk * along)
        leverage = np.minimum(np.sum(u**2 * shrunk, axis=1) + 1 / len(x), 1 - 1e-9)
        error = float(np.mean((residual / (1 - leverage)) ** 2))
        if error < best:
            best, weights = error, vt.T @ (s / (s**2 + penalty) * along)
    return middle + everywhere @ weights
