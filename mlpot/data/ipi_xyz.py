"""Structures in i-PI's own xyz: cell and units in the comment line, atomic units where none is named, isotopes by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import IO

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import cellpar_to_cell
from ase.io.formats import open_with_compression

from ..errors import DataError, quoted
from ..units import BOHR

LENGTHS = {
    "": BOHR,
    "automatic": BOHR,
    "atomic_unit": BOHR,
    "bohr": BOHR,
    "angstrom": 1.0,
    "ase": 1.0,
    "picometer": 1e-2,
    "nanometer": 10.0,
    "meter": 1e10,
}
"""A, by i-PI's name of a unit."""
ISOTOPES = {
    "D": ("H", 2.0141),
    "T": ("H", 3.016049),
    "H2": ("H", 2.0160),
    "C13": ("C", 13.00335),
    "C14": ("C", 14.003241),
    "O17": ("O", 16.9991315),
    "O18": ("O", 17.9991610),
    "Cl37": ("Cl", 36.96590259),
    "Br81": ("Br", 80.9163),
}
"""Element and mass (amu) of names that i-PI gives to isotopes."""
PLACES = ("positions", "x_centroid", "x_centroid_even", "x_centroid_odd")
CELL = re.compile(r"CELL[(\[{](abcABC|H|GENH)[)\]}]:([-+0-9.Ee \t]*)")
CELL_UNIT = re.compile(r"\bcell\{([^{}\s]*)\}")
QUANTITY = re.compile(r"\b(?!cell\b)([a-z]\w*)\{([^{}\s]*)\}")
SMALL = 1e-6
"""Rounding of cell vectors below the diagonal."""


def is_ipi_xyz(file: str) -> bool:
    """Whether the comment of the first frame says cell or quantity as i-PI does; extended XYZ says them otherwise."""
    with suppress(OSError, UnicodeDecodeError, ValueError), open_with_compression(file, "rt") as lines:
        count, comment = next(lines, ""), next(lines, "")
        if not count.strip().isdigit() or "Properties=" in comment:
            return False
        return bool(CELL.search(comment)) or any(match[1] in PLACES for match in QUANTITY.finditer(comment))
    return False


def read_ipi_xyz(file: str, unit: str = "", cell_unit: str = "") -> Iterator[Atoms]:
    """Frame by frame; periodic where there is a cell, with the masses of isotopes.

    Parameters
    ----------
    file : str
    unit, cell_unit : str
        i-PI's names of the units of positions and cell where the file does not say: the attributes of `<file>`.

    Raises
    ------
    DataError
        Unknown unit or element, a cell that is none, a quantity that is no position, a frame that is cut short.
    """
    with open_with_compression(file, "rt") as lines:
        for line in lines:
            if line.strip():
                yield _frame(chain([line], lines), unit, cell_unit)


def _frame(lines: Iterator[str] | IO[str], unit: str, cell_unit: str) -> Atoms:
    count = next(lines).strip()
    if not re.fullmatch(r"[0-9]{1,12}", count):
        raise DataError(f"{quoted(count)} is where the number of atoms should be")
    comment, rows = next(lines, ""), [line.split() for _, line in zip(range(int(count)), lines, strict=False)]
    if len(rows) < int(count):
        raise DataError(f"{len(rows)} of {count} atoms: the file is cut short")
    named = [match for match in QUANTITY.finditer(comment) if match[1] in PLACES]
    if not named and (other := QUANTITY.search(comment)):
        raise DataError(f"holds {other[0]}, no positions; give a file that i-PI wrote for positions or x_centroid")
    names, positions = [row[0] if row else "" for row in rows], np.array([numbers_of(row[1:4], 3) for row in rows])
    atoms = Atoms([_symbol(name) for name in names])
    atoms.positions[:] = positions.reshape(-1, 3) * length_unit(named[0][2] if named else unit, "positions")
    if (cell := CELL.search(comment)) is not None:
        told = CELL_UNIT.search(comment)
        _put_into(atoms, cell, length_unit(told[1] if told else cell_unit, "cell"))
    if ISOTOPES.keys() & set(names):
        masses = [ISOTOPES.get(name, ("", mass))[1] for name, mass in zip(names, atoms.get_masses(), strict=True)]
        atoms.set_masses(masses)
    return atoms


def _put_into(atoms: Atoms, cell: re.Match, factor: float) -> None:
    """Give atoms their cell; a general cell is rotated to upper triangular form together with the atoms, as i-PI does."""
    kind, numbers = cell[1], numbers_of(cell[2].split(), 6 if cell[1] == "abcABC" else 9)
    if kind == "abcABC":
        own = cellpar_to_cell(numbers * [factor, factor, factor, 1, 1, 1])
    else:
        own = numbers.reshape(3, 3) * factor
    if kind == "H":
        own = own.T
        if np.abs(np.triu(own, 1)).max() > SMALL * np.abs(own).max():
            raise DataError("CELL{H} is not upper triangular, its columns being the cell vectors; write it as CELL{GENH}, rows")
    if not np.isfinite(own).all() or not np.linalg.det(own):
        raise DataError(f"{cell[0].strip()} has no volume; correct the cell")
    atoms.set_cell(own)
    if kind == "GENH":
        inside = atoms.get_scaled_positions(wrap=False)
        atoms.set_cell(cellpar_to_cell(atoms.cell.cellpar()))
        atoms.set_scaled_positions(inside)
    atoms.pbc = True


def numbers_of(words: list[str], n: int) -> np.ndarray:
    """(n,) finite numbers, the first of the words; DataError where they are none."""
    with suppress(ValueError):
        numbers = np.array(words[:n], float)
        if numbers.shape == (n,) and np.isfinite(numbers).all():
            return numbers
    raise DataError(f"{n} finite numbers are needed where there is {quoted(' '.join(words))}")


def _symbol(name: str) -> str:
    """The element of i-PI's name of an atom."""
    symbol = ISOTOPES[name][0] if name in ISOTOPES else name
    if symbol == "X" or symbol not in atomic_numbers:
        raise DataError(f"{quoted(name)} is no element, and no isotope of {', '.join(ISOTOPES)}; rename the atom")
    return symbol


def length_unit(unit: str, what: str) -> float:
    """A, of i-PI's name of a unit; DataError for an unknown name."""
    if unit.lower() not in LENGTHS:
        known = ", ".join(filter(None, LENGTHS))
        raise DataError(f"{what} in {quoted(unit)}: not a unit of length; known are {known}")
    return LENGTHS[unit.lower()]
