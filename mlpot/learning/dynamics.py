"""Molecular dynamics that can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

import logging
import warnings
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from ..errors import ConfigError
from ..settings.dynamics import DynamicsPlan
from ..units import FEMTOSECOND, GIGAPASCAL
from . import guards
from .constrained import (
    DYNAMICS,
    MOVING_CELL,
    BondedBAOAB,
    PlaneBAOAB,
    check_constraints,
    has_fixed_bonds,
    plane_of,
    settle_bond_lengths,
)

log = logging.getLogger(__name__)


def check_dynamics(plan: DynamicsPlan, name: str, atoms: Atoms) -> None:
    """ConfigError if dynamics of a walker cannot start from these atoms."""
    if plan.ensemble != "npt":
        check_constraints(name, atoms, DYNAMICS, f'ensemble = "{plan.ensemble}"')
        return
    require_cell(name, atoms, 'ensemble = "npt"', 'ensemble = "nvt"', slabs=True)
    check_constraints(name, atoms, MOVING_CELL, 'ensemble = "npt"')
    if not atoms.pbc.all() and plan.pressure_GPa:
        raise ConfigError(
            f"walker {name}: pressure_GPa = {plan.pressure_GPa:g} is not defined for pbc = {atoms.pbc.tolist()}, since a "
            "part would act on the vacuum; set pressure_GPa = 0, or make the structure periodic in all directions"
        )


def require_cell(name: str, atoms: Atoms, what: str, instead: str, slabs: bool = False) -> None:
    """ConfigError unless the atoms have three cell vectors and are periodic along all of them, or with `slabs` along at least one.

    `what` needs that; `instead` is an alternative for the message.
    """
    periodic = atoms.pbc.any() if slabs else atoms.pbc.all()
    if not periodic or atoms.cell.rank < 3:
        needs = "three cell vectors and periodicity along at least one of them" if slabs else "three periodic cell vectors"
        raise ConfigError(
            f"walker {name}: {what} needs {needs}, but the structure has pbc = {atoms.pbc.tolist()} and "
            f"{atoms.cell.rank} cell vectors; use {instead}, or give the structure a cell"
        )


def require_stress(atoms: Atoms, what: str) -> None:
    """ConfigError unless the results of the atoms' calculator have the stress that `what` needs."""
    if "stress" not in atoms.calc.results:
        raise ConfigError(f"{what} needs a stress, but the label has none; use a labeller.calculator that computes the stress")


@dataclass(frozen=True)
class Course:
    """Temperature and time of each step, also for a run that was resumed with a different plan.

    A ramp keeps its first and last step if the run is resumed with more steps, and the time is continued if the run is resumed
    with a different time step.

    Parameters
    ----------
    ramp : tuple of float
        See `DynamicsPlan`.
    begin, end : int
        First and last step of the ramp.
    timestep_fs : float
        Time step, fs, since ...
    since_step, since_fs : int, float
        ... this step, which was at this time.
    """

    ramp: tuple[float, ...]
    begin: int
    end: int
    timestep_fs: float
    since_step: int = 0
    since_fs: float = 0.0

    @classmethod
    def of(cls, plan: DynamicsPlan) -> Course:
        """The course of a new run."""
        return cls(plan.ramp, 0, plan.steps, plan.timestep_fs)

    def temperature(self, step: int) -> float:
        """Temperature of the thermostat at a step, K; after the ramp the last temperature of the ramp."""
        part = max(0.0, min((step - self.begin) / (self.end - self.begin), 1.0))
        passed = part * (len(self.ramp) - 1)
        line = min(int(passed), len(self.ramp) - 2)
        start, end = self.ramp[line : line + 2]
        return start + (end - start) * (passed - line)

    def time_fs(self, step: int) -> float:
        """Time of a step, fs."""
        return self.since_fs + (step - self.since_step) * self.timestep_fs

    def resumed(self, plan: DynamicsPlan, step: int) -> Course:
        """The course of a run that is resumed at a step with this plan."""
        course = self
        if plan.ramp != self.ramp:
            course = replace(course, ramp=plan.ramp, begin=step, end=max(plan.steps, step + 1))
        if plan.timestep_fs != self.timestep_fs:
            now = self.time_fs(step)
            course = replace(course, timestep_fs=plan.timestep_fs, since_step=step, since_fs=now)
        return course

    def say_what_is_kept(self, plan: DynamicsPlan, step: int) -> None:
        """Warn about the consequences of a changed plan for the temperatures of a run that is resumed at a step."""
        if self.begin == step > 0 and plan.is_heated:
            log.warning("the new ramp temperature_K = %s goes from step %d to step %d", list(plan.ramp), step, self.end)
        elif plan.is_heated and plan.steps > self.end:
            log.warning(
                "the temperature ramp still ends at step %d, as when the run was started; then %g K are kept until step %d",
                self.end, self.ramp[-1], plan.steps,
            )  # fmt: skip


class Dynamics:
    """An ASE integrator that can be restarted bit for bit.

    Parameters
    ----------
    atoms : ase.Atoms
        Moved in place; with a calculator.
    plan : DynamicsPlan
    """

    def __init__(self, atoms: Atoms, plan: DynamicsPlan):
        self.atoms, self.plan, self.step = atoms, plan, 0
        settle_bond_lengths(atoms)
        self._plane = plane_of(atoms)  # from the initial structure, so that restarts have the same bits
        self.course = Course.of(plan)
        self.hottest = 0.0
        """Highest temperature of the initial structure and of the thermostat so far, K."""
        self.rng = np.random.default_rng(plan.seed)
        self._integrator: VelocityVerlet | LangevinBAOAB | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the initial structure has been calculated."""
        return self._integrator is not None

    @property
    def time_fs(self) -> float:
        """Time of the present step, fs."""
        return self.course.time_fs(self.step)

    @property
    def temperature_K(self) -> float:
        """Instantaneous temperature of the atoms, K."""
        return float(self.atoms.get_temperature())

    @property
    def is_doubtful(self) -> bool:
        """Whether the simulation may be about to blow up."""
        return self.has_begun and guards.is_doubtful(self.atoms, self.hottest)

    def begin(self) -> None:
        """Draw velocities unless there are some, and calculate the initial structure."""
        if not np.any(self.atoms.get_momenta()):
            thermalize_momenta(self.atoms, temperature_K=self.course.temperature(0), rng=self.rng)
            if len(self.atoms) > 1:
                Stationary(self.atoms)
        self.atoms.get_forces()
        if self.plan.ensemble == "npt":
            require_stress(self.atoms, 'ensemble = "npt"')
        self.hottest = max(self.course.temperature(0), self.temperature_K)
        self._integrator = self._make_integrator()

    def advance(self) -> None:
        """Make one step."""
        integrator = self._integrator
        if integrator is None:
            raise RuntimeError("`advance` was called before `begin`")
        self.step += 1
        if isinstance(integrator, LangevinBAOAB):
            temperature = self.course.temperature(self.step)
            self.hottest = max(self.hottest, temperature)
            integrator.set_temperature(temperature)
        integrator.step()

    def trouble(self, before: dict, cutoff: float) -> str | None:
        """Why the step from the state `before` counts as an explosion, or None; `cutoff` (A) is the cutoff of the model."""
        return (
            guards.jumped(before["positions"], before["cell"], self.atoms)
            or guards.hot(self.atoms, self.hottest)
            or guards.flown(self.atoms, self.hottest, cutoff)
        )

    def _make_integrator(self) -> VelocityVerlet | LangevinBAOAB:
        plan, step = self.plan, self.plan.timestep_fs * FEMTOSECOND
        if plan.ensemble == "nve":
            return VelocityVerlet(self.atoms, step)
        make: type[LangevinBAOAB] = BondedBAOAB if has_fixed_bonds(self.atoms) else LangevinBAOAB
        options: dict[str, Any] = {}
        if plan.ensemble == "npt":
            options = {"externalstress": -plan.pressure_GPa * GIGAPASCAL, "P_tau": plan.barostat_fs * FEMTOSECOND}
            if self.atoms.pbc.all():
                options["hydrostatic"] = not plan.whole_cell
            else:
                make = PlaneBAOAB
                options |= {"plane": self._plane, "whole_cell": plan.whole_cell}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using heuristic P_mass")  # ASE's own default, chosen on purpose
            warnings.filterwarnings("ignore", message="WARNING: LangevinBAOAB has not been tested")  # here it has
            return make(
                self.atoms, step, temperature_K=self.course.temperature(self.step), rng=self.rng,
                T_tau=plan.thermostat_fs * FEMTOSECOND, **options,
            )  # fmt: skip

    def state(self) -> dict:
        """Positions, momenta, cell, results, random numbers, thermostat and course of the present step."""
        state = {
            "step": self.step,
            **positions_state(self.atoms),
            "momenta": self.atoms.get_momenta(),
            "rng": self.rng.bit_generator.state,
            "hottest": self.hottest,
            "course": asdict(self.course),
        }
        for name in ("p_eps", "force_eps"):
            if hasattr(self._integrator, name):
                state[name] = copy(getattr(self._integrator, name))  # an array, changed in place, if the shape of the cell changes
        return state

    def restore(self, state: dict) -> None:
        """Restore `state`; nothing is calculated."""
        self.step, self.hottest = state["step"], state["hottest"]
        self.course = Course(**{**state["course"], "ramp": tuple(state["course"]["ramp"])})
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        restore_positions(self.atoms, state)
        self.rng.bit_generator.state = state["rng"]
        self._integrator = self._make_integrator()
        for name in ("p_eps", "force_eps"):
            if name in state:
                setattr(self._integrator, name, copy(state[name]))

    def resume(self, state: dict) -> None:
        """Continue from `state` of an earlier process, whose plan may have had other steps, temperatures or another time step."""
        self.restore(state)
        self.course = self.course.resumed(self.plan, self.step)
        self.course.say_what_is_kept(self.plan, self.step)
        if isinstance(self._integrator, LangevinBAOAB):
            self._integrator.set_temperature(self.course.temperature(self.step))


def positions_state(atoms: Atoms) -> dict:
    """Positions, cell and results of the atoms, for `restore_positions`."""
    return {
        "positions": atoms.positions.copy(), "cell": atoms.cell.array.copy(), "results": dict(atoms.calc.results),
    }  # fmt: skip


def restore_positions(atoms: Atoms, state: dict) -> None:
    """Restore what `positions_state` has saved, regardless of constraints; nothing is calculated."""
    atoms.set_cell(state["cell"])
    atoms.set_positions(state["positions"], apply_constraint=False)
    remember(atoms.calc, atoms, state["results"])


def remember(calculator: Calculator, atoms: Atoms, results: dict) -> None:
    """Make an ASE calculator hold these results for the present atoms."""
    calculator.atoms = atoms.copy()
    calculator.results = dict(results)
