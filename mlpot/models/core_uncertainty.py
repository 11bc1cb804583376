"""Uncertainty in model files for the compiled core (`core_file`): sections u.*, and additional tables for the terms.

    u.kind       0 none, 1 imported model with independent instances, 2 ensemble
    u.reals      calibration, model discrepancy, and parameters for sharing it among neighbours
    u.*          `EnsembleSpread.core_tables`; by element of the model: noises and calibration of forces, covalent radii
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii

from ..uncertainty.calibration import SYMMETRIC
from ..uncertainty.evaluators import Spread
from ..uncertainty.reaction import CANCELLED, DECAY, REACH
from .parameters import Parameters


def uncertainty_tables(
    source: Parameters, spread: Spread, counted: Sequence[int], used: Sequence[int]
) -> dict[str, np.ndarray]:
    """Sections u.* of a model.

    Parameters
    ----------
    source : Parameters
    spread : Spread
        Evaluator of the uncertainty.
    counted : sequence of int
        Atomic number that represents each element of the model in the terms.
    used : sequence of int
        Indices of the terms in the file.
    """
    tables = spread.core_tables(counted)
    if "terms" in tables:
        tables["terms"] = np.array([used.index(k) for k in tables["terms"]])
        tables |= _of_forces(source)
    tables["reals"] = _reals(source)
    return {f"u.{name}": array for name, array in tables.items()}


def _reals(source: Parameters) -> np.ndarray:
    calibration, noises = source.calibration, source.noises
    if source.factor is None:  # imported without its training data
        return np.array([calibration.energy_scale, 1.0, 0, 0, 0, SYMMETRIC, DECAY, CANCELLED, REACH, source.regularisation**2])
    return np.array(
        [
            calibration.energy_scale, calibration.stress_scale, noises.energy, noises.virial, calibration.discrepancy_share,
            SYMMETRIC, DECAY, CANCELLED, REACH, 0.0,
        ]
    )  # fmt: skip


def _of_forces(source: Parameters) -> dict[str, np.ndarray]:
    """Noise and calibration of the forces by element."""
    numbers, calibration = np.array(source.species), source.calibration
    return {
        "noises": source.noises.of_forces(numbers),
        "factors": calibration.element_factors(numbers),
        "floors": np.array([calibration.floors.get(z, 0.0) for z in source.species]),
        "growths": np.array([calibration.growths.get(z, 0.0) for z in source.species]),
        "radii": covalent_radii[numbers],
    }
