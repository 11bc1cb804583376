"""Results of a calculation besides energy, forces and stress: dipoles, charges, whatever a calculator gives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties

from ..errors import ConfigError, LabelError

USUAL = {"energy", "free_energy", "energies", "forces", "stress", "stresses"}
"""Results that belong to the potential, or follow from it."""
MOST_PER_ATOM = 27
"""Arrays with more numbers per atom, such as Hessians, are not kept."""


def check_gives(calculator: Any, wanted: Sequence[str], name: str) -> None:
    """ConfigError if a calculator says by itself that it does not compute one of ASE's properties that is wanted.

    Other results, such as polarizabilities, are not announced by ASE's calculators; `others_of` finds out.
    """
    can = set(getattr(calculator, "implemented_properties", all_properties))
    for key in wanted:
        if key in all_properties and key not in can:
            there = ", ".join(sorted(can - USUAL)) or "nothing besides energy, forces and stress"
            raise ConfigError(
                f"targets: the labeller {name} does not compute {key!r}; it has {there}: take another "
                "calculator, or remove this target"
            )


def others_of(atoms: Atoms, wanted: Sequence[str], name: str) -> dict[str, np.ndarray]:
    """Arrays of finite numbers among the results of the calculator of `atoms`, by their names.

    Parameters
    ----------
    atoms : ase.Atoms
        Just calculated.
    wanted : sequence of str
        Results that must be there; asked for if the calculator has not made them with the forces.
    name : str
        Of the calculator, for messages.

    Raises
    ------
    LabelError
        If a wanted result is missing, or is not finite.
    """
    for key in wanted:
        if key not in atoms.calc.results and key in getattr(atoms.calc, "implemented_properties", ()):
            with suppress(NotImplementedError):  # announced by the class, and not there for these settings: see below
                atoms.calc.get_property(key, atoms)
    arrays = {key: _numbers(value, len(atoms)) for key, value in atoms.calc.results.items() if key not in USUAL}
    found = {key: value for key, value in arrays.items() if value is not None}
    for key in wanted:
        if key not in found:
            there = ", ".join(found) or "nothing besides energy, forces and stress"
            raise LabelError(f"label: {name} gives no {key!r} (of finite numbers), which [[targets]] asks for; it gives {there}")
    return found


def _numbers(value: Any, n_atoms: int) -> np.ndarray | None:
    """A result as an array of real, finite numbers; None where it is something else, or large."""
    if value is None or isinstance(value, (str, bytes, dict)) or np.iscomplexobj(value):
        return None
    try:
        array = np.array(value, float)
    except (TypeError, ValueError):  # calculators keep objects of any kind among their results
        return None
    return array if np.all(np.isfinite(array)) and array.size <= MOST_PER_ATOM * max(n_atoms, 1) else None
