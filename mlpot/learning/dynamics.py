"""Molecular dynamics that can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from ..units import FEMTOSECOND, GIGAPASCAL


@dataclass(frozen=True)
class DynamicsPlan:
    """What to integrate.

    Parameters
    ----------
    ensemble : str
        "nve", "nvt" (Langevin, BAOAB; doi:10.1063/1.4802990) or "npt" (Langevin-Hoover; doi:10.1063/1.1755657).
    ramp : tuple of float
        Temperatures that the thermostat passes in straight lines of equal length, two or more, K.
    timestep_fs, thermostat_fs, barostat_fs : float
        fs.
    pressure_GPa : float
        External pressure of "npt".
    steps, seed : int
    whole_cell : bool
        "npt": whether the shape of the cell changes too.
    """

    ensemble: str
    ramp: tuple[float, ...]
    timestep_fs: float
    steps: int
    seed: int
    thermostat_fs: float = 100.0
    barostat_fs: float = 1000.0
    pressure_GPa: float = 0.0
    whole_cell: bool = False

    def temperature(self, step: int) -> float:
        """Temperature of the thermostat at a step, K."""
        passed = min(step / self.steps, 1.0) * (len(self.ramp) - 1)
        line = min(int(passed), len(self.ramp) - 2)
        start, end = self.ramp[line : line + 2]
        return start + (end - start) * (passed - line)


class Dynamics:
    """An ASE integrator with everything that a restart needs.

    Parameters
    ----------
    atoms : ase.Atoms
        Moved in place; with a calculator.
    plan : DynamicsPlan
    """

    def __init__(self, atoms: Atoms, plan: DynamicsPlan):
        self.atoms, self.plan, self.step = atoms, plan, 0
        self.rng = np.random.default_rng(plan.seed)
        self._integrator: VelocityVerlet | LangevinBAOAB | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the start has been calculated."""
        return self._integrator is not None

    def begin(self) -> None:
        """Draw velocities where there are none, and calculate the first step."""
        if not np.any(self.atoms.get_momenta()):
            thermalize_momenta(self.atoms, temperature_K=self.plan.temperature(0), rng=self.rng)
            if len(self.atoms) > 1:
                Stationary(self.atoms)
        self.atoms.get_forces()
        self._integrator = self._make_integrator()

    def advance(self) -> None:
        """One step."""
        self.step += 1
        if isinstance(self._integrator, LangevinBAOAB):
            self._integrator.set_temperature(self.plan.temperature(self.step))
        self._integrator.step()

    def _make_integrator(self) -> VelocityVerlet | LangevinBAOAB:
        plan, step = self.plan, self.plan.timestep_fs * FEMTOSECOND
        if plan.ensemble == "nve":
            return VelocityVerlet(self.atoms, step)
        barostat = {}
        if plan.ensemble == "npt":
            barostat = {
                "externalstress": -plan.pressure_GPa * GIGAPASCAL,
                "hydrostatic": not plan.whole_cell,
                "P_tau": plan.barostat_fs * FEMTOSECOND,
            }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using heuristic P_mass")  # ASE's own default, chosen on purpose
            return LangevinBAOAB(
                self.atoms, step, temperature_K=plan.temperature(self.step), rng=self.rng,
                T_tau=plan.thermostat_fs * FEMTOSECOND, **barostat,
            )  # fmt: skip

    def state(self) -> dict:
        """Positions, momenta, cell, results, random numbers and thermostat of the present step."""
        state = {
            "step": self.step,
            "positions": self.atoms.positions.copy(),
            "momenta": self.atoms.get_momenta(),
            "cell": self.atoms.cell.array.copy(),
            "results": dict(self.atoms.calc.results),
            "rng": self.rng.bit_generator.state,
        }
        for name in ("p_eps", "force_eps"):
            if hasattr(self._integrator, name):
                state[name] = copy(getattr(self._integrator, name))  # of a whole cell it is changed in place
        return state

    def restore(self, state: dict) -> None:
        """Stand where `state` was taken; nothing is calculated again."""
        self.step = state["step"]
        self.atoms.set_cell(state["cell"])
        self.atoms.set_positions(state["positions"])
        self.atoms.set_momenta(state["momenta"])
        remember(self.atoms.calc, self.atoms, state["results"])
        self.rng.bit_generator.state = state["rng"]
        self._integrator = self._make_integrator()
        for name in ("p_eps", "force_eps"):
            if name in state:
                setattr(self._integrator, name, copy(state[name]))


def remember(calculator: Calculator, atoms: Atoms, results: dict) -> None:
    """Let an ASE calculator hold results for the atoms as they are."""
    calculator.atoms = atoms.copy()
    calculator.results = dict(results)
