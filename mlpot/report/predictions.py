"""Predictions together with labels in a structure file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.label_keys import KNOWN, PREDICTED, plain
from ..errors import required
from ..models.evaluate import Comparison
from ..structures import write_exact_xyz


def write_predictions(file: str | Path, comparisons: Sequence[Comparison]) -> None:
    """Write structures, their labels under ASE's names and what the model says under the same names after "mlpot_".

    Comment line: mlpot_energy and mlpot_energy_std in eV, mlpot_stress and mlpot_stress_std in eV/A^3, mlpot_source (file and frame
    of the structure), and the numbers and strings of `info`. Columns: mlpot_energies, mlpot_energies_std, mlpot_forces,
    mlpot_forces_std, mlpot_novelty.

    Parameters
    ----------
    file : str or Path
        Extended XYZ; replaced.
    comparisons : list of Comparison
        With predictions.
    """
    atoms = [c.structure.atoms for c in comparisons]
    write_exact_xyz(file, atoms, map(_info, comparisons), map(_arrays, comparisons))


def _info(c: Comparison) -> dict[str, Any]:
    """The structure's info without the labels it was compared with, and the predicted totals."""
    p = required(c.prediction, "prediction")
    own = {
        key: value
        for key, value in c.structure.atoms.info.items()
        if isinstance(value, str | int | float | bool | np.integer | np.floating | np.bool_)
        and isinstance(key, str)
        and plain(key) not in KNOWN
        and key != "frame"
        and not key.startswith(PREDICTED)
    }
    totals = {"energy": p.energy, "energy_std": p.energy_std, "stress": p.stress, "stress_std": p.stress_std}
    return {**own, "mlpot_source": c.structure.name, **_named(totals)}


def _arrays(c: Comparison) -> dict[str, np.ndarray]:
    names = ("energies", "energies_std", "forces", "forces_std", "novelty")
    return _named({name: getattr(c.prediction, name) for name in names})


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {PREDICTED + name: value for name, value in values.items() if value is not None}
