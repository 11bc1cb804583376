"""Constraints and barostats for slabs that ASE's Langevin integrator does not handle itself.

Fixed atoms, lines, planes and the centre of mass stay in place because ASE projects the velocities. Fixed bond lengths need
corrected positions in every step, with the velocity taken from the corrected displacement as in RATTLE; in the order of BAOAB this
is the integrator g-BAOAB of Leimkuhler and Matthews, Proc. R. Soc. A 472, 20160138 (2016), doi:10.1098/rspa.2016.0138.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixBondLengths
from ase.md.langevinbaoab import LangevinBAOAB

from ..errors import ConfigError

DYNAMICS = ("FixAtoms", "FixBondLengths", "FixCartesian", "FixCom", "FixedLine", "FixedPlane", "Hookean")
RELAXATION = (*DYNAMICS, "FixScaled", "FixSymmetry")
MOVING_CELL = ("FixAtoms", "FixCom")
"""Fixed atoms keep their fractional coordinates."""
RELAXED_CELL = (*MOVING_CELL, "FixSymmetry")


def check_constraints(name: str, atoms: Atoms, known: tuple[str, ...], what: str) -> None:
    """ConfigError for a constraint of an initial structure that `what` does not support, or could not restart bit for bit."""
    for constraint in atoms.constraints:
        kind = type(constraint).__name__
        if kind not in known:
            raise ConfigError(
                f"walker {name}: the initial structure has the constraint {kind}, which {what} does not support (it supports "
                f"{', '.join(known)}); remove it from the structure file, or choose another ensemble"
            )


def settle_bond_lengths(atoms: Atoms) -> None:
    """Set the lengths of fixed bonds to the present ones, so that every process that continues the run has the same."""
    for constraint in atoms.constraints:
        if isinstance(constraint, FixBondLengths) and constraint.bondlengths is None:
            constraint.bondlengths = constraint.initialize_bond_lengths(atoms)


def has_fixed_bonds(atoms: Atoms) -> bool:
    """Whether there are fixed bond lengths."""
    return any(isinstance(constraint, FixBondLengths) for constraint in atoms.constraints)


def plane_of(atoms: Atoms) -> np.ndarray:
    """The projector (3, 3) onto the space of the periodic cell vectors."""
    periodic = atoms.cell.array[atoms.pbc]
    return np.linalg.pinv(periodic) @ periodic


class BondedBAOAB(LangevinBAOAB):
    """BAOAB for atoms with fixed bond lengths."""

    def _BAOAB_A(self) -> None:
        before, half = self.atoms.positions.copy(), 0.5 * self.dt
        self.atoms.set_positions(before + half * self.atoms.get_velocities())
        self.atoms.set_velocities((self.atoms.positions - before) / half)


class PlaneBAOAB(LangevinBAOAB):
    """Langevin-Hoover dynamics of a slab or wire: the strain is projected onto the periodic cell vectors.

    Parameters
    ----------
    plane : (3, 3) array
        See `plane_of`.
    whole_cell : bool
        Whether the shape of the periodic part changes, or only its size.
    """

    p_eps: Any

    def __init__(self, atoms: Atoms, *args, plane: np.ndarray, whole_cell: bool, **kwargs):
        self._plane, self._whole_cell = plane, whole_cell
        super().__init__(atoms, *args, hydrostatic=False, **kwargs)
        self.p_eps = np.zeros((3, 3))

    def projected(self, strain: np.ndarray) -> np.ndarray:
        """The allowed part (3, 3) of a strain."""
        inside = self._plane @ strain @ self._plane
        return inside if self._whole_cell else self._plane * np.trace(inside) / np.trace(self._plane)

    def _barostat_BAOAB_B(self) -> None:
        super()._barostat_BAOAB_B()
        self.p_eps = self.projected(self.p_eps)

    def _barostat_BAOAB_OU(self) -> None:
        super()._barostat_BAOAB_OU()
        self.p_eps = self.projected(self.p_eps)

    def _barostat_BAOAB_OU_gamma_mod(self) -> np.ndarray:
        return (self.p_eps + np.trace(self.p_eps) / self.Ndof * np.identity(3)) / self.barostat_mass
