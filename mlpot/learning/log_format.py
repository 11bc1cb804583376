"""Records of a step: a row of log.csv, a frame of a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ..structures import stress_matrix, xyz_text

LOG, RUN_LOG, TRAJECTORY = "log.csv", "run.log", "trajectory"
LOG_COLUMNS = (
    "step", "time_fs", "temperature_K", "energy_eV", "max_energy_std_eV", "threshold", "labelled", "model_version", "seconds",
    "expected_error_eV_per_A", "force_error_eV_per_A", "novelty", "reason", "n_labels", "walker",
    "expected_energy_error_eV_per_atom", "expected_stress_error_GPa", "max_force_eV_per_A",
)  # fmt: skip
LATER_COLUMNS = LOG_COLUMNS[-3:]
"""Columns that logs of earlier versions do not have."""
WORDS = ("reason", "walker")
"""Columns that contain text."""
QUEUED = ("soft", "check")
"""Reasons of labels for which no walker waits."""


@dataclass(frozen=True)
class Step:
    """One row of log.csv, and what a live view needs in addition.

    Parameters
    ----------
    step, n_steps : int
        Number of this step, and of all steps of this walker; n_steps is None if only the server knows.
    time_fs, temperature_K : float or None
        None if only the server knows, and in a relaxation.
    energy_eV : float
        Potential energy; the mean over the beads of a ring polymer.
    max_energy_std_eV : float or None
        Largest standard deviation of a local energy in the prediction; None without a model.
    threshold, expected_error_eV_per_A, novelty : float or None
        Limit on the expected force error, expected force error (eV/A) and largest novelty of the prediction.
    labelled : bool
        Whether this step was labelled rather than predicted.
    model_version, n_labels : int
    seconds : float
        Wall time of this step.
    force_error_eV_per_A : float or None
        RMS error of the predicted forces at a labelled step.
    reason : str
        Reason of the decision.
    walker : str
    n_queued : int
        Queued labels of all walkers; not in log.csv.
    expected_energy_error_eV_per_atom, expected_stress_error_GPa : float or None
        Expected errors of the prediction; None for the stress without three cell vectors.
    max_force_eV_per_A : float or None
        Largest force on an atom.
    """

    step: int
    n_steps: int | None
    time_fs: float | None
    temperature_K: float | None
    energy_eV: float
    max_energy_std_eV: float | None
    threshold: float | None
    labelled: bool
    model_version: int
    n_labels: int
    seconds: float
    expected_error_eV_per_A: float | None
    force_error_eV_per_A: float | None
    novelty: float | None
    reason: str
    walker: str
    n_queued: int = 0
    expected_energy_error_eV_per_atom: float | None = None
    expected_stress_error_GPa: float | None = None
    max_force_eV_per_A: float | None = None

    def row(self) -> str:
        """As a line of log.csv; None becomes an empty cell."""
        return ",".join(_cell(getattr(self, name)) for name in LOG_COLUMNS) + "\n"


def _cell(value: float | bool | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return str(int(value)) if isinstance(value, bool) else repr(value)


def frame_text(atoms: Atoms, results: Mapping, uncertainty: Mapping, info: Mapping[str, int]) -> str:
    """A frame of the trajectory in extended XYZ, with results, uncertainties, and momenta where there are any."""
    columns = {"pos": ("R", atoms.positions)}
    if atoms.has("momenta"):
        columns["momenta"] = ("R", atoms.get_momenta())
    comment: dict[str, Any] = dict(info)
    if "energy" in results:
        comment["energy"] = results["energy"]
    if "stress" in results:
        comment["stress"] = stress_matrix(results["stress"])
    for name in ("energy_std", "stress_std"):
        if name in uncertainty:
            comment[name] = uncertainty[name]
    if "forces" in results:
        columns["forces"] = ("R", results["forces"])
    for name in ("energies_std", "forces_std"):
        if name in uncertainty:
            columns[name] = ("R", np.asarray(uncertainty[name]))
    return xyz_text(atoms, columns, comment)
