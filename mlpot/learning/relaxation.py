"""Relaxation of positions, or of positions and cell, that can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter

from .dynamics import positions_state, require_cell, require_stress, restore_positions

LONGEST = 0.2
"""Largest displacement of an atom in one step, A."""


@dataclass(frozen=True)
class RelaxationPlan:
    """What to relax.

    Parameters
    ----------
    steps : int
        Largest number of optimiser steps.
    fmax : float
        Largest force that is left, eV/A; of a cell also the largest derivative of the energy by the strain, eV per atom.
    whole_cell : bool
        Whether the cell relaxes too.
    """

    steps: int
    fmax: float = 0.02
    whole_cell: bool = False

    is_heated = False
    suspects = "the start (atoms too close?)"

    @property
    def ensemble(self) -> str:
        """As reports call it."""
        return "relax cell" if self.whole_cell else "relax"

    def check_start(self, name: str, atoms: Atoms) -> None:
        """ConfigError if a walker cannot start from these atoms."""
        if self.whole_cell:
            require_cell(name, atoms, 'relax = "cell"')


@dataclass(frozen=True)
class Fire:
    """State of the optimiser FIRE, and its parameters; in ASE's units, with masses of 1.

    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201; the parameters are those of ASE. It
    stands changes of the potential between two steps, as no history of forces enters.

    Parameters
    ----------
    velocities : (n, 3) array or None
        None before the first step.
    dt : float
        Time step.
    mixing : float
        How far velocities are turned into the direction of the forces.
    n_downhill : int
        Steps since the velocities last pointed uphill.
    """

    velocities: np.ndarray | None = None
    dt: float = 0.1
    mixing: float = 0.1
    n_downhill: int = 0

    def step(self, forces: np.ndarray) -> tuple[np.ndarray, Fire]:
        """Displacements (n, 3) for forces (n, 3), and the state after them."""
        velocities, dt, mixing, n_downhill = self.velocities, self.dt, self.mixing, self.n_downhill
        if velocities is None:
            velocities = np.zeros_like(forces)
        elif np.sum(forces * velocities) > 0:
            speed, force = np.sqrt(np.sum(velocities**2)), np.sqrt(np.sum(forces**2))
            velocities = (1 - mixing) * velocities + mixing * forces * (speed / force)
            if n_downhill > 5:
                dt, mixing = min(1.1 * dt, 1.0), 0.99 * mixing
            n_downhill += 1
        else:
            velocities, dt, mixing, n_downhill = np.zeros_like(forces), 0.5 * dt, 0.1, 0
        velocities = velocities + dt * forces
        displacements = dt * velocities
        longest = np.sqrt(np.max(np.sum(displacements**2, axis=1)))
        return displacements * min(1.0, LONGEST / max(longest, 1e-300)), Fire(velocities, dt, mixing, n_downhill)


class Relaxation:
    """An optimiser with everything that a restart needs; a step is a displacement and the forces after it.

    Parameters
    ----------
    atoms : ase.Atoms
        Moved in place; with a calculator.
    plan : RelaxationPlan
    """

    time_fs = None
    temperature_K = None
    is_doubtful = False

    def __init__(self, atoms: Atoms, plan: RelaxationPlan):
        self.atoms, self.plan, self.step = atoms, plan, 0
        self._fire = Fire()
        self._first_cell = atoms.cell.array.copy()
        self._target: Atoms | FrechetCellFilter | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the start has been calculated."""
        return self._target is not None

    @property
    def largest_force(self) -> float:
        """Largest force left, eV/A, or derivative by the strain, eV per atom, if that is larger."""
        return float(np.sqrt(np.max(np.sum(self._target.get_forces() ** 2, axis=1))))

    @property
    def is_settled(self) -> bool:
        """Whether the present results leave nothing to relax."""
        return self.has_begun and self.largest_force <= self.plan.fmax

    def begin(self) -> None:
        """Calculate the start."""
        self.atoms.get_forces()
        if self.plan.whole_cell:
            require_stress(self.atoms, 'relax = "cell"')
        self._aim()

    def advance(self) -> None:
        """One step."""
        self.step += 1
        displacements, self._fire = self._fire.step(self._target.get_forces())
        self._target.set_positions(self._target.get_positions() + displacements)
        self.atoms.get_forces()

    def stay(self) -> None:
        """A step that goes nowhere, but calculates once more."""
        self.step += 1
        self.atoms.calc.reset()
        self.atoms.get_forces()

    def trouble(self, before: dict, cutoff: float) -> str | None:
        """What shows that the step from the state `before` went wrong, or None: steps are short, so nothing but this."""
        return None if np.isfinite(self.atoms.positions).all() else "positions are not finite"

    def _aim(self) -> None:
        """What is relaxed: the atoms, or a filter whose strain counts from the first cell."""
        if not self.plan.whole_cell:
            self._target = self.atoms
            return
        cell = self.atoms.cell.array.copy()
        self.atoms.set_cell(self._first_cell)
        self._target = FrechetCellFilter(self.atoms)
        self.atoms.set_cell(cell)

    def state(self) -> dict:
        """Positions, cell, results and optimiser of the present step."""
        return {
            "step": self.step, **positions_state(self.atoms), "first_cell": self._first_cell, "fire": vars(self._fire).copy(),
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Stand where `state` was taken; nothing is calculated again."""
        self.step, self._fire, self._first_cell = state["step"], Fire(**state["fire"]), state["first_cell"]
        restore_positions(self.atoms, state)
        self._aim()

    def resume(self, state: dict) -> None:
        """Go on from `state` of an earlier process."""
        self.restore(state)
