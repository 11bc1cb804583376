"""What a labeller is, and what a label must be before it is believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from ..errors import LabelError


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


def check_label(atoms: Atoms, label: Label) -> None:
    """LabelError naming what is wrong with a label: shapes, or values that are not finite."""
    for name, value, shape in (
        ("energy", label.energy, ()),
        ("forces", label.forces, (len(atoms), 3)),
        ("stress", label.stress, (3, 3)),
    ):
        if value is None:
            continue
        if np.shape(value) != shape:
            raise LabelError(f"label: {name} has shape {np.shape(value)}, expected {shape}")
        if not np.all(np.isfinite(value)):
            raise LabelError(f"label: {name} is not finite; the calculation did not converge")
