"""Labels of targets in structures: where they are found, their units, and the charges and origins that dipoles depend on.

Inside mlpot a dipole is in e A, a polarisability is a volume in A^3 (alpha / 4 pi eps0); other quantities keep the unit of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase import units as _ase

from ..errors import DataError
from ..units import BOHR, COULOMB_CONSTANT
from .targets import Target

DIPOLE = Target("dipole", 1, False, "e*A")
POLARIZABILITY = Target("polarizability", 2, False, "A^3")
DIELECTRIC = Target("dielectric", 2, False, "", per_volume=True)
UNITS: dict[str, dict[str, float]] = {
    "dipole": {"e*A": 1.0, "e*bohr": BOHR, "debye": float(_ase.Debye)},
    "polarizability": {"A^3": 1.0, "bohr^3": BOHR**3, "e^2*A^2/eV": COULOMB_CONSTANT},
}
"""Units of known targets, in the unit inside mlpot."""
ASYMMETRIC = 0.01
"""Largest antisymmetric part of a symmetric matrix relative to its norm that counts as rounding."""
NEUTRAL = 1e-3
"""Smallest charge of a charged system, e: codes print rounded charges of atoms."""
CHARGES = ("charge", "total_charge", "net_charge", "tot_charge")


def known_target(name: str) -> Target | None:
    """The target of a well-known name."""
    return {target.name: target for target in (DIPOLE, POLARIZABILITY, DIELECTRIC)}.get(name)


def vacuum(target: Target) -> np.ndarray:
    """The quantity without any atoms, of the target's shape: 1 for a relative permittivity, else 0."""
    return np.eye(3) if target.name == DIELECTRIC.name and target.per_volume else np.zeros(target.shape)


def amount(target: Target, atoms: Atoms, name: str = "structure") -> float:
    """Factor that makes a quantity additive over atoms: the volume of the cell, A^3, of a property of a material, else 1.

    Raises
    ------
    DataError
        For a property of a material of a structure that is not periodic in three directions.
    """
    if not target.per_volume:
        return 1.0
    if not atoms.pbc.all():
        raise DataError(
            f"{name}: {target.name} is a property per volume, but the structure is not periodic in three directions; remove it, "
            "or learn it under another name, with this key and per_volume = false"
        )
    return float(atoms.get_volume())


@dataclass(frozen=True)
class Origin:
    """Point to which dipoles refer, and the charge of the systems.

    The dipole of a charged system depends on its origin: mu(origin) = mu(centre of mass) + charge (centre of mass - origin). What is
    learned is the dipole about the centre of mass, which a translation leaves as it is.

    Parameters
    ----------
    place : str, tuple of 3 floats or None
        "center_of_mass", "center_of_charge" (of the nuclei), a place in A, or None: systems must be neutral.
    charge : float or None
        e; None: from `info` or the initial charges of the structure, else neutral.
    """

    place: str | tuple[float, float, float] | None = None
    charge: float | None = None

    def charge_of(self, atoms: Atoms) -> float:
        """Charge of a structure, e."""
        if self.charge is not None:
            return self.charge
        for key in CHARGES:
            if key in atoms.info:
                return float(atoms.info[key])
        return float(atoms.get_initial_charges().sum()) if atoms.has("initial_charges") else 0.0

    def shift(self, atoms: Atoms, name: str = "structure") -> np.ndarray:
        """Dipole about the origin minus the dipole about the centre of mass (3,), e A.

        Raises
        ------
        DataError
            For a charged system without an origin, or one that is periodic.
        """
        charge = self.charge_of(atoms)
        if abs(charge) < NEUTRAL:
            return np.zeros(3)
        if self.place is None:
            raise DataError(
                f"{name}: has a charge of {charge:g} e, so its dipole depends on the origin; name the point to which labels refer: "
                'origin = "center_of_mass", "center_of_charge" or [x, y, z]'
            )
        if atoms.pbc.any():
            raise DataError(f"{name}: has a charge of {charge:g} e and is periodic: its dipole has no meaning; remove the structure")
        return charge * (atoms.get_center_of_mass() - self._point(atoms))

    def _point(self, atoms: Atoms) -> np.ndarray:
        if self.place == "center_of_mass":
            return atoms.get_center_of_mass()
        if self.place == "center_of_charge":
            return atoms.numbers @ atoms.positions / atoms.numbers.sum()
        return np.asarray(self.place, float)

    def slope(self, atoms: Atoms) -> np.ndarray:
        """Derivative (n_atoms,) of a component of `shift` with respect to the same coordinate of each atom, e."""
        charge = self.charge_of(atoms)
        if abs(charge) < NEUTRAL or self.place in (None, "center_of_mass"):
            return np.zeros(len(atoms))
        masses = atoms.get_masses() / atoms.get_masses().sum()
        nuclei = atoms.numbers / atoms.numbers.sum()
        return charge * (masses - nuclei if self.place == "center_of_charge" else masses)


def label_of(atoms: Atoms, key: str, target: Target, unit: str, name: str) -> np.ndarray | None:
    """The label of a structure in mlpot's unit, of the target's shape, with a leading axis of atoms where it is one per atom.

    Looked for in the results of its calculator, in `info` and in `arrays`. None where there is none.

    Raises
    ------
    DataError
        A label of another shape (of the whole structure instead of per atom, or the reverse), not finite, no numbers, or a matrix
        that is not symmetric.
    """
    places: list[dict[str, Any]] = [atoms.calc.results if atoms.calc is not None else {}, atoms.info, atoms.arrays]
    found = next((place[key] for place in places if place.get(key) is not None), None)
    if found is None:
        return None
    try:
        value = np.asarray(found, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {key} = {str(found)[:60]!r} does not hold numbers; repair or remove it") from error
    value = _shaped(value, target, len(atoms), f"{name}: {key}")
    if not np.all(np.isfinite(value)):
        raise DataError(f"{name}: {key} is not finite; repair or remove it")
    if target.rank == 2:
        value = _symmetric(value, f"{name}: {key}")
    return value * UNITS.get(target.name, {}).get(unit, 1.0)


def _shaped(value: np.ndarray, target: Target, n_atoms: int, what: str) -> np.ndarray:
    """A label of the target's shape; six components of a matrix are xx yy zz yz xz xy."""
    lead = (n_atoms,) if target.per_atom else ()
    if target.rank == 2 and value.shape == (*lead, 6):
        value = value[..., [0, 5, 4, 5, 1, 3, 4, 3, 2]]
    wanted = (*lead, *target.shape)
    if value.size == int(np.prod(wanted)) and value.shape[: len(lead)] == lead:
        return value.reshape(wanted)
    other = () if target.per_atom else (n_atoms,)
    if value.size == int(np.prod((*other, *target.shape))):
        now, remedy = ("one value for the structure", "false") if target.per_atom else ("a value for every atom", "true")
        raise DataError(f"{what} holds {now}, but per_atom = {str(target.per_atom).lower()}; set per_atom = {remedy}")
    raise DataError(f"{what} has the shape {value.shape}, but rank = {target.rank} needs {wanted}; set another rank or key")


def _symmetric(value: np.ndarray, what: str) -> np.ndarray:
    turned = np.swapaxes(value, -1, -2)
    part, size = np.abs(value - turned).max(initial=0.0) / 2, np.abs(value).max(initial=0.0)
    if part > ASYMMETRIC * size:
        raise DataError(
            f"{what} is not symmetric: its antisymmetric part is {part:.2g}, its largest component {size:.3g}; only symmetric "
            "matrices are learned, so symmetrise it if that is what you mean"
        )
    return (value + turned) / 2


@dataclass(frozen=True)
class TargetLabels:
    """Structures with a label of a target.

    Parameters
    ----------
    frames : list of ase.Atoms
    names : list of str
        Origin of each, for messages.
    values : list of arrays
        In mlpot's unit; dipoles about the centre of mass.
    n_without : int
        Structures without this label.
    """

    frames: list[Atoms]
    names: list[str]
    values: list[np.ndarray]
    n_without: int


def labels_of(frames: Sequence[Atoms], names: Sequence[str], key: str, target: Target, unit: str, origin: Origin) -> TargetLabels:
    """Collect the labels of a target; dipoles are moved to the centre of mass.

    Raises
    ------
    DataError
        If a label is wrong, or there is none at all.
    """
    every = [label_of(atoms, key, target, unit, name) for atoms, name in zip(frames, names, strict=True)]
    labels = {k: label for k, label in enumerate(every) if label is not None}
    if not labels:
        there = sorted({key for atoms in frames for key in _keys(atoms)})
        others = ", ".join(there) or "no other labels"
        raise DataError(f"targets: no structure has {key!r}; there are {others}: set key, or remove this target")
    moves = target == DIPOLE or (origin.place is not None)
    values = [label - origin.shift(frames[k], names[k]) if moves else label for k, label in labels.items()]
    return TargetLabels([frames[k] for k in labels], [names[k] for k in labels], values, len(every) - len(labels))


def _keys(atoms: Atoms) -> set[str]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return {key for key in {**results, **atoms.info, **atoms.arrays} if key not in ("numbers", "positions", "frame", "config_type")}
