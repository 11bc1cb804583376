"""A fast potential from a slow one, for one system: the settings of its exploration, and the judgement at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from ..errors import ExplodedError, required
from ..labellers.calculator import CalculatorLabeller
from ..models.sparse_gp import SparseGP
from ..settings.files import LearnFile
from ..units import MILLI

CHECKED = 8
"""Number of fresh structures on which a model is compared with its teacher."""
APART = 50
"""Steps between two fresh structures: a velocity has lost its memory after some tens of femtoseconds."""
QUIET = 10
"""Fraction (one over this) of the steps that must pass without a needed label before the exploration ends."""
TIMED = 20
LONG = 20.0
"""Calculations of the teacher for its time are repeated up to this sum, s: other programs may have slowed down the first."""
"""Predictions that are timed; the shortest counts."""


@dataclass(frozen=True)
class Teacher:
    """The slow potential: import path and keyword arguments of an ASE calculator."""

    calculator: str
    parameters: dict[str, Any]

    def label(self, atoms: Atoms) -> tuple[float, np.ndarray, float]:
        """Energy in eV, forces (n_atoms, 3) in eV/A, and wall time in s; LabelError if it does not deliver."""
        found = CalculatorLabeller(self.calculator, self.parameters).label(atoms)
        return found.energy, found.forces, found.seconds


@dataclass(frozen=True)
class Exploration:
    """Conditions that the model is meant for.

    Parameters
    ----------
    file : str
        Structure file.
    temperatures : sequence of float
        K; a walker for each.
    pressures : sequence of float
        GPa; with some, a walker at constant pressure for each temperature and pressure, else the cell is constant.
    steps : int
        Largest number of steps of each walker.
    timestep : float
        fs.
    target : float
        Force error that is aimed at, eV/A.
    preset : str
    max_labels : int or None
    workers : int
        Labels at the same time.
    seed : int
    """

    file: str
    temperatures: Sequence[float]
    pressures: Sequence[float]
    steps: int
    timestep: float
    target: float
    preset: str
    max_labels: int | None
    workers: int
    seed: int

    def settings(self, teacher: Teacher, folder: str) -> LearnFile:
        """The learning run that explores, in a folder; ConfigError for impossible values."""
        pressures: Sequence[float | None] = self.pressures or [None]
        states = [(t, p) for t in self.temperatures for p in pressures]
        walkers = [
            {"name": f"walker-{k}", "temperature_K": t, **({} if p is None else {"ensemble": "npt", "pressure_GPa": p})}
            for k, (t, p) in enumerate(states)
        ]
        learning = {
            "target": self.target, "target_error": self.target, "converged_after": max(self.steps // QUIET, 1),
            "max_labels": self.max_labels,
        }  # fmt: skip
        return LearnFile.checked(
            {
                "structure": {"file": self.file},
                "dynamics": {"timestep_fs": self.timestep, "steps": self.steps, "seed": self.seed},
                "walkers": walkers,
                "labeller": {"calculator": teacher.calculator, "parameters": teacher.parameters, "workers": self.workers},
                "learning": {key: value for key, value in learning.items() if value is not None},
                "model": {"preset": self.preset},
                "output": {"folder": folder},
            },
            "distil",
        )


@dataclass(frozen=True)
class Judgement:
    """A model against its teacher, on structures that neither training nor checks have seen.

    Parameters
    ----------
    force_rmse, expected_force_rmse : float
        Error of the forces, and the error that the model expects, eV/A.
    energy_rmse : float
        meV/atom, after the mean difference is subtracted.
    n_structures : int
    teacher_seconds, model_seconds : float
        Time of energy and forces of one structure.
    n_atoms : int
        Size of the structure that was timed.
    """

    force_rmse: float
    expected_force_rmse: float
    energy_rmse: float
    n_structures: int
    teacher_seconds: float
    model_seconds: float
    n_atoms: int

    @property
    def speed_up(self) -> float:
        """Speed relative to the teacher."""
        return self.teacher_seconds / self.model_seconds

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self), "speed_up": self.speed_up}


def fresh_structures(model: SparseGP, starts: Sequence[Atoms], temperatures: Sequence[float], timestep: float) -> list[Atoms]:
    """Structures from dynamics with the model alone, which go on where the exploration ended.

    Parameters
    ----------
    model : SparseGP
    starts : sequence of ase.Atoms
        Last structure of each walker.
    temperatures : sequence of float
        K, of each.
    timestep : float
        fs.

    Raises
    ------
    ExplodedError
        If the dynamics leave everything that is physical.
    """
    from ..drivers.ase import MlpotCalculator

    found = []
    share = -(-CHECKED // len(starts))
    for k, (start, temperature) in enumerate(zip(starts, temperatures, strict=True)):
        atoms, rng = start.copy(), np.random.default_rng(k)
        atoms.calc = MlpotCalculator(model, uncertainty=False)
        masses = atoms.get_masses()[:, None]
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * temperature))
        dynamics = Langevin(
            atoms, timestep * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=rng
        )
        for _ in range(share):
            dynamics.run(APART)
            if not np.isfinite(atoms.positions).all() or atoms.get_temperature() > 10 * temperature + 1000:
                raise ExplodedError(f"dynamics with the model at {temperature:g} K have blown up; raise steps, or lower target")
            found.append(atoms.copy())
    return found


def judge(model: SparseGP, teacher: Teacher, frames: Sequence[Atoms], timed: Atoms | None = None) -> Judgement:
    """Compare a model with its teacher on structures, and time both on `timed`, by default on the first of them."""
    labels = [teacher.label(atoms) for atoms in frames]
    predictions = [model.predict(atoms, uncertainty=True) for atoms in frames]
    errors = [p.forces - forces for p, (_, forces, _) in zip(predictions, labels, strict=True)]
    expected = [required(p.forces_std, "forces_std") for p in predictions]
    energies = np.array([(p.energy - e) / len(f) for p, (e, f, _) in zip(predictions, labels, strict=True)])
    return Judgement(
        force_rmse=_rms(errors),
        expected_force_rmse=_rms(expected),
        energy_rmse=float(np.std(energies)) / MILLI,
        n_structures=len(frames),
        teacher_seconds=min(seconds for *_, seconds in labels) if timed is None else _seconds_of(teacher, timed),
        model_seconds=_seconds(model, frames[0] if timed is None else timed),
        n_atoms=len(frames[0] if timed is None else timed),
    )


def _rms(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(arrays) ** 2)))


def _seconds_of(teacher: Teacher, atoms: Atoms) -> float:
    """Time of a calculation, s: the least of three, or of fewer where that takes long."""
    seconds = [teacher.label(atoms)[2]]
    while len(seconds) < 3 and sum(seconds) < LONG:
        seconds.append(teacher.label(atoms)[2])
    return min(seconds)


def _seconds(model: SparseGP, atoms: Atoms) -> float:
    """Time of a step of dynamics with the ASE calculator, s."""
    from ..drivers.ase import MlpotCalculator

    work, times = atoms.copy(), []
    work.calc = MlpotCalculator(model, uncertainty=False)
    work.get_forces()  # tables and neighbours are made once
    for _ in range(TIMED):
        work.positions += 1e-4
        started = time.perf_counter()
        work.get_forces()
        times.append(time.perf_counter() - started)
    return min(times)
