"""Interface of labellers, and the checks that a label must pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from ..errors import LabelError, counted
from ..settings.defaults import NET_FORCE_TOLERANCE

GEOMETRY_TOLERANCE = 1e-3
"""Largest displacement of an atom by a calculation, A. Text files round to 1e-5; at this displacement the force of a stiff bond
changes by 0.05 eV/A."""
OUTLIER_LEAST, OUTLIER_DEVIATIONS, OUTLIER_FLOOR = 10, 20.0, 1.0
"""For implausible energies: smallest number of labels to compare with; limit in median absolute deviations; smallest limit,
eV/atom (the potential energy at 8000 K)."""
LAUNCHER = "MLPOT_LAUNCHER"
"""Environment variable of the workers of a job: the command that starts the processes of a label."""
SAME_ENERGY = 1e-3
"""Energies (eV/atom) of two calculations that differ by less agree: about the energy noise of a fit."""


@dataclass(frozen=True)
class Label:
    """The result of an electronic-structure calculation for one structure.

    Parameters
    ----------
    energy : float
        eV; the forces are its derivative.
    forces : (n_atoms, 3) array
        eV/A.
    stress : (3, 3) array or None
        eV/A^3; None without three cell vectors, or if the code does not compute it.
    seconds : float
        Wall time of the calculation.
    settings : dict
        Calculator and parameters.
    others : dict
        Further results that the calculator gives, arrays by their names: in ASE's units "dipole" (3,), e A, "charges" (n_atoms,), e;
        others as they are.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    seconds: float
    settings: dict[str, Any]
    others: dict[str, np.ndarray] = field(default_factory=dict)


class Labeller(Protocol):
    """Makes labels, in the process that calls it; what plans, workers and label sources use of it.

    `mlpot.validate_labeller` checks one of your own. It is sent to worker processes, so it must be possible to pickle it.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that identify the level of theory, in JSON types: two labellers with equal settings give equal labels."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that a worker may import before a structure comes, to save time."""

    def varied(self, changes: dict[str, Any]) -> Labeller:
        """A labeller with some parameters replaced, for another try after a failure."""

    def check(self) -> None:
        """ConfigError if it cannot work at all; no calculation is made."""

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and stress of a structure, which is left as it is; LabelError if the code does not deliver."""


def key_of(labeller: Labeller, atoms: Atoms) -> str:
    """Hash of structure, calculator and parameters; labels with the same key are the same."""
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
    """LabelError if a label is wrong, as far as the label itself shows it."""
    check_shapes(atoms, label)
    check_finite(label)
    if net_force_tolerance is not None:
        check_net_force(label, net_force_tolerance)


def check_shapes(atoms: Atoms, label: Label) -> None:
    """LabelError unless there is one energy, a force on every atom and, if there is a stress, (3, 3) components."""
    for name, value, shape in _parts(atoms, label):
        if np.shape(value) != shape:
            raise LabelError(f"label: {name} has shape {np.shape(value)}, expected {shape}")


def check_finite(label: Label) -> None:
    """LabelError if a number is NaN or infinite."""
    for name, value in (("energy", label.energy), ("forces", label.forces), ("stress", label.stress)):
        if value is not None and not np.all(np.isfinite(value)):
            raise LabelError(f"label: {name} is not finite; the calculation did not converge")


def check_net_force(label: Label, tolerance: float) -> None:
    """LabelError if the forces do not add up to zero, as they must without external forces.

    Parameters
    ----------
    label : Label
    tolerance : float
        Largest length of the net force, eV/A per atom.
    """
    net = float(np.linalg.norm(label.forces.sum(axis=0))) / max(len(label.forces), 1)
    if net > tolerance:
        raise LabelError(
            f"label: net force {net:.3g} eV/A per atom exceeds labeller.net_force_tolerance = {tolerance:g}; increase it for a "
            'code with larger numerical noise, or set it to "off" with an external field or walls'
        )


def check_geometry(sent: Atoms, found: Atoms, where: str) -> None:
    """LabelError if a structure is not the one that was sent, because the calculator has relaxed it or sorted the atoms.

    Atoms may have been wrapped into the cell, and numbers rounded as in text files.

    Parameters
    ----------
    sent, found : ase.Atoms
    where : str
        Where the structure was found, for the message.
    """
    if not np.array_equal(sent.numbers, found.numbers):
        raise LabelError(f"label: {where} has the atoms {found.symbols} instead of {sent.symbols}; the calculator must not sort them")
    if np.abs(sent.cell.array - found.cell.array)[sent.pbc].max(initial=0.0) > GEOMETRY_TOLERANCE:
        raise LabelError(
            f"label: {where} has a different cell; the calculator must not change it"
        )
    moved = found.positions - sent.positions
    if sent.pbc.any():
        cell = sent.cell.complete().array
        turns = np.round(np.linalg.solve(cell.T, moved.T).T) * sent.pbc
        moved = moved - turns @ cell
    furthest = float(np.abs(moved).max(initial=0.0))
    if not furthest <= GEOMETRY_TOLERANCE:
        raise LabelError(
            f"label: {where} has atoms that are displaced by up to {furthest:.3g} A; the calculator must not move them"
        )


def energy_doubt(energy: float, others: Sequence[float]) -> str | None:
    """Why an energy is implausible compared with other structures of the same atoms, or None.

    Energies are not judged with fewer than `OUTLIER_LEAST` others. The limit on the distance from their median is proportional to
    the median absolute deviation, which outliers among them do not enlarge, but at least `OUTLIER_FLOOR`: the first structures of
    a run are alike, and the later ones, hot, strained or reacting, are the purpose of the run.

    The energy alone does not show whether the structure is unusual or the calculation failed, but a second calculation does: a
    truncated file, faulty memory or an SCF in a different state do not give the same energy twice, an unusual structure does. So
    a doubtful energy is accepted only after a second calculation agrees within `SAME_ENERGY`. A calculation that is wrong in the
    same way each time is accepted with a warning; the later check against the fit is meant to find it.

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
        f"its energy of {energy:.6g} eV/atom differs by {energy - median:+.3g} eV/atom from the median of "
        f"{counted(len(others), 'label')} of the same composition; differences above {limit:.3g} eV/atom are implausible"
    )


def same_energy(one: float, other: float) -> bool:
    """Whether the energies of two calculations of one structure, eV/atom, agree."""
    return abs(one - other) <= SAME_ENERGY


def _parts(atoms: Atoms, label: Label) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, value and shape of each part of a label."""
    parts = [("energy", label.energy, ()), ("forces", label.forces, (len(atoms), 3)), ("stress", label.stress, (3, 3))]
    return [part for part in parts if part[1] is not None]
