"""Bitwise exact encoding of structures in mlpot's own files: results of workers, records of failures, state.json.

`encode` makes a table of arrays under ASE's names, `plain` turns it into what JSON can hold, `decode` reads both, and what earlier
versions wrote. labels.db holds structures as ASE's database does, and files for people are extended XYZ (`structures.exact_xyz`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint

EARLIER_NAMES = {"charges": "initial_charges", "magmoms": "initial_magmoms"}
"""Names that earlier versions gave to arrays."""
NO_ARRAYS = {"numbers", "positions", "cell", "pbc", "constraints", "symbols"}
"""Keys of an encoded structure that are not further arrays of its atoms; the symbols are for readers only."""


def encode(atoms: Atoms) -> dict[str, Any]:
    """A structure as arrays under ASE's names.

    Parameters
    ----------
    atoms : ase.Atoms
        With any arrays (momenta, tags, initial charges and magnetic moments, ...) and constraints; its calculator and info are
        left out. See `structures.bare_structure` for what a label depends on.

    Returns
    -------
    dict
        "numbers" (n_atoms,), "positions" (n_atoms, 3) in A, further arrays of the atoms, "cell" (3, 3) in A, "pbc" (3,), and
        "constraints", a list of tables, where there are any.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> decode(plain(encode(water))) == water
    True
    """
    values: dict[str, Any] = {name: array.copy() for name, array in atoms.arrays.items()}
    values |= {"cell": atoms.cell.array.copy(), "pbc": atoms.pbc.copy()}
    if atoms.constraints:
        values["constraints"] = [constraint.todict() for constraint in atoms.constraints]
    return values


def plain(value: Any) -> Any:
    """The same with lists in place of arrays, for JSON, whose numbers come back bit for bit."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def decode(values: Mapping[str, Any]) -> Atoms:
    """The structure that was encoded.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not one.
    """
    atoms = Atoms(
        np.asarray(values["numbers"], int), positions=np.reshape(values["positions"], (-1, 3)), cell=values["cell"],
        pbc=values["pbc"],
    )  # fmt: skip
    for name, value in values.items():
        if name not in NO_ARRAYS:
            atoms.set_array(EARLIER_NAMES.get(name, name), np.asarray(value))
    atoms.set_constraint([dict2constraint(table) for table in values.get("constraints", ())])
    return atoms
