"""Relaxation of positions, or of positions and cell, that can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter

from ..errors import ConfigError
from ..settings.dynamics import DynamicsPlan
from .constrained import RELAXATION, RELAXED_CELL, check_constraints, plane_of, settle_bond_lengths
from .dynamics import positions_state, require_cell, require_stress, restore_positions

LONGEST = 0.2
"""Largest displacement of an atom in one step, A."""


def check_relaxation(plan: DynamicsPlan, name: str, atoms: Atoms) -> None:
    """ConfigError if a relaxation of a walker cannot start from these atoms."""
    if plan.whole_cell:
        require_cell(name, atoms, 'relax = "cell"', 'relax = "positions"', slabs=True)
        if np.abs(plane_of(atoms) - np.diag(_relaxed_axes(atoms))).max() > 1e-8:
            raise ConfigError(
                f'walker {name}: relax = "cell" of a slab or wire strains the cell along x, y or z only, but its periodic cell '
                "vectors are not along these axes; rotate the structure (atoms.rotate(..., rotate_cell=True)) or set "
                'relax = "positions"'
            )
    check_constraints(name, atoms, RELAXED_CELL if plan.whole_cell else RELAXATION, f'relax = "{plan.relax}"')


def _relaxed_axes(atoms: Atoms) -> np.ndarray:
    """(3,) array of 0 and 1: the axes along which the cell of a crystal, slab or wire is strained, never into the vacuum."""
    return np.round(np.diag(plane_of(atoms)))


@dataclass(frozen=True)
class Fire:
    """State of the optimiser FIRE, and its parameters; in ASE's units, with masses of 1.

    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201; the parameters are ASE's. It tolerates
    changes of the potential between two steps, since it uses no history of forces.

    Parameters
    ----------
    velocities : (n, 3) array or None
        None before the first step.
    dt : float
        Time step.
    mixing : float
        Fraction of the velocity that is replaced by the direction of the forces.
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
    """An optimiser that can be restarted bit for bit; a step is a displacement and the forces after it.

    Parameters
    ----------
    atoms : ase.Atoms
        Moved in place; with a calculator.
    plan : DynamicsPlan
        A relaxation.
    """

    time_fs = None
    temperature_K = None
    is_doubtful = False

    def __init__(self, atoms: Atoms, plan: DynamicsPlan):
        self.atoms, self.plan, self.step = atoms, plan, 0
        settle_bond_lengths(atoms)
        self._fire = Fire()
        self._first_cell = atoms.cell.array.copy()
        self._target: Atoms | FrechetCellFilter | None = None
        self._offset: np.ndarray | None = None
        self.is_labelled = False
        """Whether the present results are a label."""

    @property
    def has_begun(self) -> bool:
        """Whether the initial structure has been calculated."""
        return self._target is not None

    @property
    def target(self) -> Atoms | FrechetCellFilter:
        """Object moved by the optimiser."""
        if self._target is None:
            raise RuntimeError("a relaxation was used before `begin`")
        return self._target

    @property
    def forces(self) -> np.ndarray:
        """Forces for the optimiser: (n_atoms, 3), eV/A, with the cell followed by (3, 3) derivatives by the strain, eV per atom.

        The error of the model in the last label is added to the predictions. So the relaxation continues after a label that should
        have confirmed its end, even if the error of the model is as large as fmax, and ends where the labels have no forces.
        Ethanol with GFN1-xTB and fmax = 0.02 takes 7 labels this way and 28 without the correction.
        """
        forces = self.target.get_forces()
        return forces if self.is_labelled or self._offset is None else forces + self._offset

    @property
    def largest_force(self) -> float:
        """Norm of the largest force."""
        return float(np.sqrt(np.max(np.sum(self.forces**2, axis=1))))

    @property
    def is_settled(self) -> bool:
        """Whether all forces are below fmax."""
        return self.has_begun and self.largest_force <= self.plan.fmax

    def begin(self) -> None:
        """Calculate the initial structure."""
        self.atoms.get_forces()
        if self.plan.whole_cell:
            require_stress(self.atoms, 'relax = "cell"')
        self._aim()

    def advance(self) -> None:
        """Make one step."""
        self.step += 1
        displacements, self._fire = self._fire.step(self.forces)
        self.target.set_positions(self.target.get_positions() + displacements)
        self.atoms.get_forces()

    def stay(self) -> None:
        """Make a step without a displacement: calculate the present structure once more."""
        self.step += 1
        self.atoms.calc.reset()
        self.atoms.get_forces()

    def note(self, learned: dict | None) -> None:
        """Record after every step whether its results are a label, and if so, what the model that has learned it predicts.

        Parameters
        ----------
        learned : dict or None
            Results of the model under ASE's names; None if the results of the step are predicted.
        """
        self.is_labelled = learned is not None
        if learned is None:
            return
        calculator, forces = self.atoms.calc, self.target.get_forces()
        label, calculator.results = calculator.results, learned
        self._offset = forces - self.target.get_forces()
        calculator.results = label

    def trouble(self, before: dict, cutoff: float) -> str | None:
        """Why the step from the state `before` counts as an explosion, or None. Steps are short, so only NaN can be wrong."""
        return None if np.isfinite(self.atoms.positions).all() else "positions are not finite"

    def _aim(self) -> None:
        """Set what is relaxed: the atoms, or a cell filter whose strain is relative to the first cell, in the periodic directions."""
        if not self.plan.whole_cell:
            self._target = self.atoms
            return
        cell = self.atoms.cell.array.copy()
        self.atoms.set_cell(self._first_cell)
        axes = _relaxed_axes(self.atoms)
        self._target = FrechetCellFilter(self.atoms, mask=np.outer(axes, axes))
        self.atoms.set_cell(cell)

    def state(self) -> dict:
        """Positions, cell, results and optimiser of the present step."""
        return {
            "step": self.step, **positions_state(self.atoms), "first_cell": self._first_cell, "fire": vars(self._fire).copy(),
            "offset": self._offset, "is_labelled": self.is_labelled,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Restore `state`; nothing is calculated."""
        self.step, self._fire, self._first_cell = state["step"], Fire(**state["fire"]), state["first_cell"]
        self._offset, self.is_labelled = state["offset"], state["is_labelled"]
        restore_positions(self.atoms, state)
        self._aim()

    def resume(self, state: dict) -> None:
        """Continue from `state` of an earlier process."""
        self.restore(state)
