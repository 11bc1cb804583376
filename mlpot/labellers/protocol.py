"""What a labeller is, and what a label must be before it is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from ..errors import LabelError
from ..settings.defaults import NET_FORCE_TOLERANCE

GEOMETRY_TOLERANCE = 1e-3
"""A; text files round to 1e-5, and at this distance even a stiff bond's force changes by 0.05 eV/A."""
OUTLIER_LEAST, OUTLIER_DEVIATIONS, OUTLIER_FLOOR = 10, 20.0, 1.0
"""Labels that a comparison takes; median absolute deviations; eV/atom, the potential energy of 8000 K."""
LAUNCHER = "MLPOT_LAUNCHER"
"""What starts the processes of a label, in the environment of the workers of a job."""
SAME_ENERGY = 1e-3
"""eV/atom: about the noise that fits take energies to have."""


@dataclass(frozen=True)
class Label:
    """What an electronic-structure code said of one structure.

    Parameters
    ----------
    energy : float
        eV; the one that the forces are the derivative of.
    forces : (n_atoms, 3) array
        eV/A.
    stress : (3, 3) array or None
        eV/A^3; None without a three-dimensional cell, or when the code has none.
    seconds : float
        Wall time of the calculation.
    settings : dict
        Calculator and parameters.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    seconds: float
    settings: dict[str, Any]


class Labeller(Protocol):
    """Makes labels, here and now, in the process that calls it."""

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the level of theory: plain numbers and strings."""

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and stress; LabelError when the code does not deliver."""


def key_of(labeller: Labeller, atoms: Atoms) -> str:
    """Hash of structure, calculator and parameters: the same key means the same label."""
    digest = hashlib.sha256(json.dumps(labeller.settings, sort_keys=True).encode())
    for array, kind in (
        (atoms.numbers, np.int64),
        (atoms.positions, np.float64),
        (atoms.cell.array, np.float64),
        (atoms.pbc, np.bool_),
        (atoms.get_initial_charges(), np.float64),
        (atoms.get_initial_magnetic_moments(), np.float64),
    ):
        digest.update(np.ascontiguousarray(array, kind).tobytes())
    return digest.hexdigest()


def check_label(atoms: Atoms, label: Label, net_force_tolerance: float | None = NET_FORCE_TOLERANCE) -> None:
    """LabelError naming what is wrong with a label, as far as it shows in the label itself."""
    check_shapes(atoms, label)
    check_finite(label)
    if net_force_tolerance is not None:
        check_net_force(label, net_force_tolerance)


def check_shapes(atoms: Atoms, label: Label) -> None:
    """LabelError unless there is one energy, a force for every atom and, if any, a (3, 3) stress."""
    for name, value, shape in _parts(atoms, label):
        if np.shape(value) != shape:
            raise LabelError(f"label: {name} has shape {np.shape(value)}, expected {shape}")


def check_finite(label: Label) -> None:
    """LabelError when a number is NaN or infinite."""
    for name, value in (("energy", label.energy), ("forces", label.forces), ("stress", label.stress)):
        if value is not None and not np.all(np.isfinite(value)):
            raise LabelError(f"label: {name} is not finite; the calculation did not converge")


def check_net_force(label: Label, tolerance: float) -> None:
    """LabelError when the forces do not add up to zero, as they do wherever nothing outside pulls at the atoms.

    Parameters
    ----------
    label : Label
    tolerance : float
        Largest length of the net force, eV/A per atom.
    """
    net = float(np.linalg.norm(label.forces.sum(axis=0))) / max(len(label.forces), 1)
    if net > tolerance:
        raise LabelError(
            f"label: the forces add up to {net:.3g} eV/A per atom, where labeller.net_force_tolerance = {tolerance:g} allows "
            'no more; raise it for a code that is that rough, or set it to "off" where a field or a wall pulls at the atoms'
        )


def check_geometry(sent: Atoms, found: Atoms, where: str) -> None:
    """LabelError when a structure is not the one that was sent: a calculator relaxed it, or sorted the atoms.

    Atoms may have been wrapped into the cell, and numbers rounded as text files do.

    Parameters
    ----------
    sent, found : ase.Atoms
    where : str
        Where it was found, for the message.
    """
    if not np.array_equal(sent.numbers, found.numbers):
        raise LabelError(f"label: {where} holds {found.symbols}, not {sent.symbols}: other atoms, or another order")
    if np.abs(sent.cell.array - found.cell.array)[sent.pbc].max(initial=0.0) > GEOMETRY_TOLERANCE:
        raise LabelError(
            f"label: {where} has another cell than the one that was sent; the calculator must not change it"
        )
    moved = found.positions - sent.positions
    if sent.pbc.any():
        cell = sent.cell.complete().array
        turns = np.round(np.linalg.solve(cell.T, moved.T).T) * sent.pbc
        moved = moved - turns @ cell
    furthest = float(np.abs(moved).max(initial=0.0))
    if not furthest <= GEOMETRY_TOLERANCE:
        raise LabelError(
            f"label: {where} has atoms up to {furthest:.3g} A from where they were sent; the calculator must not move them"
        )


def energy_doubt(energy: float, others: Sequence[float]) -> str | None:
    """What is strange about an energy, or None: how far it is from those of the same atoms in other places.

    Nothing is said of it among fewer than `OUTLIER_LEAST` others. Its distance from their median counts in median absolute
    deviations, which outliers that are already there do not blow up, and never less than `OUTLIER_FLOOR`: the first
    structures of a run are alike, and what comes after, hot, strained or reacting, is what it was started for.

    An energy alone cannot tell a strange structure from a broken calculation, but doing it again can. A file cut short,
    a node with bad memory, an SCF that fell into another state do not give the same energy twice; a strange structure does.
    So a doubted energy is no label until a second calculation comes out within `SAME_ENERGY` of it. A calculation that is
    wrong in the same way each time passes, with a warning: the later check against the fit is for that.

    Parameters
    ----------
    energy : float
        eV/atom.
    others : sequence of float
        eV/atom, of labelled structures of the same composition.
    """
    if len(others) < OUTLIER_LEAST:
        return None
    median = float(np.median(others))
    spread = float(np.median(np.abs(np.asarray(others) - median)))
    limit = max(OUTLIER_FLOOR, OUTLIER_DEVIATIONS * spread)
    if abs(energy - median) <= limit:
        return None
    return (
        f"its energy is {energy:.6g} eV/atom, {energy - median:+.3g} from the median of {len(others)} labels of the same "
        f"composition; more than {limit:.3g} is strange"
    )


def same_energy(one: float, other: float) -> bool:
    """Whether two calculations of one structure, eV/atom, agree."""
    return abs(one - other) <= SAME_ENERGY


def _parts(atoms: Atoms, label: Label) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, value and shape of what a label holds."""
    parts = [("energy", label.energy, ()), ("forces", label.forces, (len(atoms), 3)), ("stress", label.stress, (3, 3))]
    return [part for part in parts if part[1] is not None]
