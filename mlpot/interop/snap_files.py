"""The two text files of a SNAP potential: coefficients of every element, and parameters of the descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ..errors import ModelFileError, UnsupportedPotentialError, quoted
from .quip_text import read_regular

LARGEST_FILE = 2**28
"""Bytes."""
REQUIRED = ("rcutfac", "twojmax")
FLAGS = {"bzeroflag": True, "quadraticflag": False, "chemflag": False, "bnormflag": False, "wselfallflag": False}
"""Flags with LAMMPS' defaults."""
NUMBERS = {"rfac0": 0.99363, "rmin0": 0.0}
TUNING = ("chunksize", "parallelthresh")
"""Keys of LAMMPS' memory and threads."""
FIXED = {
    "switchflag": ("1", "without a cutoff function energies jump when an atom crosses the cutoff"),
    "switchinnerflag": ("0", "the inner cutoff function is not computed"),
    "diagonalstyle": ("3", "other styles are from LAMMPS before 2016"),
}
"""Keys with the only supported value, and the reason."""
INNER = ("sinner", "dinner")


@dataclass(frozen=True)
class SnapParameters:
    """Contents of a parameter file; names and units as in LAMMPS."""

    rcutfac: float
    twojmax: int
    rfac0: float
    rmin0: float
    flags: dict[str, bool]


@dataclass(frozen=True)
class SnapElement:
    """An element of a coefficient file."""

    number: int
    radius: float
    weight: float
    coefficients: np.ndarray


def read_parameters(file: Path) -> SnapParameters:
    """Read a parameter file.

    Raises
    ------
    ModelFileError
        If it is missing, or a line is no key with a value, with the line and the key.
    UnsupportedPotentialError
        For an option that mlpot does not compute.
    """
    found: dict[str, tuple[str, str]] = {}
    for place, words in _lines(file, "a SNAP parameter file (.snapparam)"):
        key = words[0]
        if key in FIXED or key in INNER:
            _check_fixed(place, words)
        elif key not in (*REQUIRED, *FLAGS, *NUMBERS, *TUNING):
            raise UnsupportedPotentialError(f"{place}: {quoted(key)}: is no key of pair_style snap that mlpot knows; use LAMMPS")
        elif len(words) != 2:
            raise ModelFileError(f"{place}: {key}: must be followed by one value, not {len(words) - 1}; restore the file")
        elif key in found:
            raise ModelFileError(f"{place}: {key}: is given twice; remove one")
        else:
            found[key] = (place, words[1])
    for key in REQUIRED:
        if key not in found:
            raise ModelFileError(f"{file}: {key}: is missing; add it, or give the parameter file of a SNAP potential")
    flags = {key: _flag(key, *found[key]) if key in found else default for key, default in FLAGS.items()}
    numbers = {key: _number(key, *found[key]) if key in found else default for key, default in NUMBERS.items()}
    rcutfac, twojmax = _number("rcutfac", *found["rcutfac"]), _whole("twojmax", *found["twojmax"])
    if not rcutfac > 0:
        raise ModelFileError(f"{found['rcutfac'][0]}: rcutfac = {rcutfac}: must be positive")
    return SnapParameters(rcutfac, twojmax, numbers["rfac0"], numbers["rmin0"], flags)


def read_elements(file: Path) -> tuple[SnapElement, ...]:
    """Read a coefficient file: elements in its order.

    Raises
    ------
    ModelFileError
        If it is missing or damaged, with the line.
    """
    lines = _lines(file, "a SNAP coefficient file (.snapcoeff)")
    place, words = _next(lines, file, "the numbers of elements and of coefficients")
    if len(words) != 2:
        raise ModelFileError(f"{place}: {quoted(' '.join(words))}: must be the numbers of elements and of coefficients of each")
    n_elements, n_coefficients = _whole("number of elements", place, words[0]), _whole("number of coefficients", place, words[1])
    if n_elements < 1 or n_coefficients < 1:
        raise ModelFileError(f"{place}: {n_elements} elements with {n_coefficients} coefficients: must be positive; restore the file")
    found: list[SnapElement] = []
    for _ in range(n_elements):
        found.append(_read_element(lines, file, n_coefficients))
        if [own.number for own in found].count(found[-1].number) > 1:
            raise ModelFileError(f"{file}: element {len(found)} of {n_elements}: occurs twice; remove one")
    for place, words in lines:
        raise ModelFileError(
            f"{place}: {quoted(' '.join(words))}: follows the last of {n_elements} x {n_coefficients} coefficients; correct these "
            "numbers"
        )
    return tuple(found)


def _read_element(lines: Iterator[tuple[str, list[str]]], file: Path, n_coefficients: int) -> SnapElement:
    place, words = _next(lines, file, "an element: symbol, radius and weight")
    if len(words) != 3 or words[0] not in atomic_numbers or words[0] == "X":
        raise ModelFileError(f"{place}: {quoted(' '.join(words))}: must be a chemical symbol, a radius and a weight")
    radius, weight = _number("radius", place, words[1]), _number("weight", place, words[2])
    if not radius > 0:
        raise ModelFileError(f"{place}: radius = {radius}: must be positive")
    coefficients = np.empty(n_coefficients)
    for k in range(n_coefficients):
        place, numbers = _next(lines, file, f"coefficient {k + 1} of {n_coefficients} of {words[0]}")
        if len(numbers) != 1:
            raise ModelFileError(f"{place}: coefficient {k + 1} of {words[0]}: must be one number, not {quoted(' '.join(numbers))}")
        coefficients[k] = _number(f"coefficient {k + 1} of {words[0]}", place, numbers[0])
    return SnapElement(atomic_numbers[words[0]], radius, weight, coefficients)


def _lines(file: Path, kind: str) -> Iterator[tuple[str, list[str]]]:
    """Place and words of every line that is not empty; a # begins a comment."""
    data = read_regular(file, f"give the path of {kind}", LARGEST_FILE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{file}: is not a text file; give {kind}") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            yield f"{file}, line {number}", words


def _next(lines: Iterator[tuple[str, list[str]]], file: Path, wanted: str) -> tuple[str, list[str]]:
    for found in lines:
        return found
    raise ModelFileError(f"{file}: ends before {wanted}; restore the file")


def _check_fixed(place: str, words: list[str]) -> None:
    key = words[0]
    value, reason = FIXED.get(key, (None, FIXED["switchinnerflag"][1]))
    if words[1:] != [value]:
        raise UnsupportedPotentialError(f"{place}: {key} = {quoted(' '.join(words[1:]))}: {reason}; use LAMMPS")


def _number(key: str, place: str, word: str) -> float:
    try:
        value = float(word.replace("d", "e").replace("D", "e"))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ModelFileError(f"{place}: {key} = {quoted(word)}: must be a finite number; restore the file")
    return value


def _whole(key: str, place: str, word: str) -> int:
    value = _number(key, place, word)
    if value != round(value) or abs(value) > 1e6:
        raise ModelFileError(f"{place}: {key} = {quoted(word)}: must be a whole number")
    return int(value)


def _flag(key: str, place: str, word: str) -> bool:
    if word not in ("0", "1"):
        raise ModelFileError(f"{place}: {key} = {quoted(word)}: must be 0 or 1")
    return word == "1"
