"""Uncertainty in model files for the compiled core (`core_file`): sections u.*, and additional tables for the terms.

    u.kind       0 none, 1 imported model with independent instances, 2 ensemble, 3 sums of an ensemble (in memory only)
    u.reals      calibration, model discrepancy, and parameters for sharing it among neighbours
    u.*          `EnsembleSpread.core_tables`; by element of the model: noises and calibration of forces, covalent radii
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import covalent_radii

from ..uncertainty.calibration import SYMMETRIC
from ..uncertainty.evaluators import Spread
from ..uncertainty.reaction import CANCELLED, DECAY, REACH
from .parameters import Parameters


def uncertainty_tables(
    source: Parameters, spread: Spread, counted: Sequence[int], places: Mapping[int, int]
) -> dict[str, np.ndarray]:
    """Sections u.* of a model file.

    Parameters
    ----------
    source : Parameters
    spread : Spread
        Evaluator of the uncertainty.
    counted : sequence of int
        Atomic number that represents each element of the model in the terms.
    places : mapping of int to int
        Places of the terms in the file by their index.
    """
    tables = spread.core_tables(counted, places) | {"reals": _reals(source)}
    return {f"u.{name}": array for name, array in (tables | (_of_forces(source) if "terms" in tables else {})).items()}


def observing_tables(source: Parameters, spread: Spread, places: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Sections u.* of a model in memory, whose uncertainty is completed by the spread."""
    tables = spread.observing_tables(places)
    if source.factor is None:
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
    numbers = np.array(source.species)
    factors, floors, growths = source.calibration.by_atom(numbers)
    return {
        "noises": source.noises.of_forces(numbers), "factors": factors, "floors": floors, "growths": growths,
        "radii": covalent_radii[numbers],
    }  # fmt: skip
