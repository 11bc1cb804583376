"""Compares what a learning run said of its errors with its errors: fresh reference forces on frames of its trajectory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.data import chemical_symbols
from ase.db import connect
from ase.stress import voigt_6_to_full_3x3_stress

import mlpot

TARGET = 0.2
"""Root mean square force error a run must reach in its second half, eV/A: the default target of `mlpot learn`."""
SKIPPED = 10
"""The first 1/10 of the steps is not judged: nobody expects a model there."""
FEWEST = 30
"""Force components of an element below which its coverage is too noisy to report."""
GPA = 160.21766
"""Of 1 eV/A^3."""
ADMITTED = ("not converged", "stalled")
"""Verdicts that tell the user not to trust a run."""


@dataclass(frozen=True)
class Claim:
    """A frame with what was predicted for it and the reference's answer.

    Parameters
    ----------
    step : int
    numbers : (n_atoms,) array
    force_errors, forces_std : (n_atoms, 3) arrays
        Predicted minus true forces, and their predicted standard deviations, eV/A.
    energy_error : float
        Predicted minus true energy of the frame, eV.
    energy_std : float or None
        eV; None where the trajectory does not have it.
    stress_error, stress_std : (3, 3) array or None
        Predicted minus true stress and its predicted standard deviation, eV/A^3; None where there is none, as without a cell.
    """

    step: int
    numbers: np.ndarray
    force_errors: np.ndarray
    forces_std: np.ndarray
    energy_error: float
    energy_std: float | None
    stress_error: np.ndarray | None
    stress_std: np.ndarray | None

    @property
    def rms(self) -> tuple[float, float]:
        """Root mean squares over all force components, eV/A: of the errors, and as predicted."""
        return _rms(self.force_errors), _rms(self.forces_std)

    @property
    def worst_is_beyond(self) -> bool:
        """Whether the error of the worst atom, RMS over x, y and z, exceeds three times what was predicted for it."""
        errors = np.sqrt(np.mean(self.force_errors**2, axis=1))
        worst = errors.argmax()
        return bool(errors[worst] > 3 * _rms(self.forces_std[worst]))


def judge(folder: Path, make: Callable[[], Calculator], n_judged: int | None = None) -> dict:
    """What a run folder of `mlpot learn` claims, against the truth.

    Parameters
    ----------
    folder : Path
        With trajectories, labels.db, state.json and model.h5.
    make : callable
        Returns a new calculator like the one that made the labels. Each frame gets its own: codes that continue from their
        previous result, such as tblite, return wrong forces once they have failed to converge.
    n_judged : int or None
        At most about this many frames, evenly spaced; None: all.

    Returns
    -------
    dict
        Plain numbers; see `summary`. The keys `labels`, `verdict` and `status` are the run's own.

    Raises
    ------
    ValueError
        If the trajectory has no predicted frame after a tenth of the run, or the reference fails on all of them.
    """
    frames, first, last = predicted_frames(folder)
    stride = 1 if n_judged is None else -(-len(frames) // n_judged)
    claims, said = claims_of(frames[::stride], folder, make)
    if not claims:
        raise ValueError(f"{folder}: the reference failed on all {len(frames[::stride])} frames")
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    found = summary(claims, (first + last) / 2)
    found |= {
        "said": said,
        "not_calculated": len(frames[::stride]) - len(claims),
        "labels": connect(folder / "labels.db").count(),
        "steps": last,
    }
    found |= {"status": state["status"], "verdict": state["verdict"]}
    found["admits"] = state["verdict"] in ADMITTED
    found["honest"] = found["rms_second_half"] <= TARGET or found["admits"]
    return found


def predicted_frames(folder: Path) -> tuple[list[Atoms], float, int]:
    """Frames that were predicted, not labelled, after a tenth of the run; the step of that; and the last step."""
    frames = [atoms for file in sorted(folder.glob("trajectory*.xyz")) for atoms in ase.io.iread(file)]
    last = max((int(atoms.info["step"]) for atoms in frames), default=0)
    first = last // SKIPPED
    kept = [atoms for atoms in frames if atoms.info["step"] >= first and not atoms.info["labelled"]]
    if not kept:
        raise ValueError(f"{folder}: no predicted frame after step {first}; the run is too short to be judged")
    return kept, first, last


def claims_of(frames: Sequence[Atoms], folder: Path, make: Callable[[], Calculator]) -> tuple[list[Claim], str]:
    """Frames against the reference; and whose words they carry: "then", as written, or "final model" without deviations.

    Forces of constrained atoms count like all others. Frames on which the reference fails are left out.
    """
    written = all("forces_std" in atoms.arrays for atoms in frames)
    model = None if written else mlpot.load_model(folder / "model.h5")
    claims = []
    for frame in frames:
        bare = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        said = frame.calc.results | frame.info | frame.arrays
        if model is not None:
            bare.calc = mlpot.MlpotCalculator(model)
            bare.get_forces()
            said = bare.calc.results | dict(bare.calc.uncertainty)
        bare.calc = make()
        with suppress(CalculationFailed):
            claims.append(claim_of(said, bare, int(frame.info["step"])))
    return claims, "then" if written else "final model"


def claim_of(said: Mapping[str, Any], atoms: Atoms, step: int) -> Claim:
    """What was said of atoms that have the reference as their calculator."""
    stress = said["stress"] if "stress" in said and atoms.pbc.all() else None
    return Claim(
        step,
        atoms.numbers,
        said["forces"] - atoms.get_forces(),
        said["forces_std"],
        float(said["energy"] - atoms.get_potential_energy()),
        said.get("energy_std"),
        None if stress is None else voigt_6_to_full_3x3_stress(stress) - atoms.get_stress(voigt=False),
        None if stress is None else said.get("stress_std"),
    )


def summary(claims: Sequence[Claim], half: float) -> dict:
    """Figures of one run.

    Parameters
    ----------
    claims : sequence of Claim
    half : float
        Step from which on a frame belongs to the second half.

    Returns
    -------
    dict
        rms, rms_said, rms_second_half : root mean square force errors, true and predicted, eV/A.
        beyond_twice : fraction of frames whose true RMS exceeds twice the predicted.
        worst_beyond_3 : fraction of frames whose worst atom is off by more than three predicted deviations.
        coverage_1, coverage_2 : per element, fraction of force components within one and two deviations.
        energy_rms, stress_rms : root mean square errors, meV/atom and GPa; the latter None without stresses.
        energy_z, stress_z : RMS of these errors in predicted deviations; None where the deviations are not known.
    """
    true, said = np.array([claim.rms for claim in claims]).T
    late = np.array([claim.step >= half for claim in claims])
    numbers = np.concatenate([claim.numbers for claim in claims])
    errors = np.abs(np.concatenate([claim.force_errors for claim in claims]))
    deviations = np.concatenate([claim.forces_std for claim in claims])
    stresses = [claim.stress_error for claim in claims if claim.stress_error is not None]
    of_energy = [claim.energy_error / claim.energy_std for claim in claims if claim.energy_std is not None]
    of_stress = [claim.stress_error / claim.stress_std for claim in claims if claim.stress_std is not None]
    return {
        "frames": len(claims),
        "rms": _rms(true),
        "rms_said": _rms(said),
        "rms_second_half": _rms(true[late]) if late.any() else float("nan"),
        "beyond_twice": float(np.mean(true > 2 * said)),
        "worst_beyond_3": float(np.mean([claim.worst_is_beyond for claim in claims])),
        "coverage_1": coverage(numbers, errors, deviations),
        "coverage_2": coverage(numbers, errors, 2 * deviations),
        "energy_rms": 1e3 * _rms(np.array([claim.energy_error / len(claim.numbers) for claim in claims])),
        "energy_z": _rms(np.array(of_energy)) if of_energy else None,
        "stress_rms": GPA * _rms(np.array(stresses)) if stresses else None,
        "stress_z": _rms(np.array(of_stress)) if of_stress else None,
    }


def coverage(numbers: np.ndarray, errors: np.ndarray, bounds: np.ndarray) -> dict[str, float]:
    """Per element with enough components, the fraction of absolute errors (n, 3) that are within the bounds (n, 3)."""
    within = {}
    for z in np.unique(numbers):
        of_element = numbers == z
        if 3 * of_element.sum() >= FEWEST:
            within[chemical_symbols[z]] = float(np.mean(errors[of_element] <= bounds[of_element]))
    return within


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
