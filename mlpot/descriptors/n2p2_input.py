"""Symmetry functions from an input.nn file of n2p2 or RuNNer."""

from __future__ import annotations

import math
from dataclasses import replace

from ase.data import atomic_numbers, chemical_symbols

from ..errors import ConfigError, quoted
from .acsf_functions import RadialFactor, SymmetryFunction
from .cutoff_functions import CUTOFF_FUNCTIONS, CompactFunction, CutoffFunction

KEYWORDS = ("symfunction_short", "element_symfunction_short", "global_symfunction_short")
TYPES = {
    1: ("G1", 1, "rc"), 2: ("G2", 1, "eta rs rc"), 3: ("G4", 2, "eta lambda zeta rc [rs]"), 4: ("G3", 1, "kappa rc"),
    9: ("G5", 2, "eta lambda zeta rc [rs]"), 12: ("G2", 0, "eta rs rc"), 13: ("G4", 0, "eta rs lambda zeta rc"),
    20: ("C20", 1, "low high kind"), 21: ("C21", 2, "low high left right kind"), 22: ("C22", 2, "low high left right kind"),
    23: ("C20", 0, "low high kind"), 24: ("C21", 0, "low high left right kind"), 25: ("C22", 0, "low high left right kind"),
}  # fmt: skip
"""Kind, number of named neighbours, and parameters of every type."""


def read_functions(text: str, source: str = "input.nn", length_unit: float = 1.0) -> tuple[SymmetryFunction, ...]:
    """Read functions from the lines `symfunction_short`, with the cutoff function from the line `cutoff_type`.

    Parameters
    ----------
    text : str
        Content of the file.
    source : str
        Name of the file, for messages.
    length_unit : float
        Unit of length in A; ase.units.Bohr if the file uses atomic units.

    Returns
    -------
    tuple of SymmetryFunction
        For `ACSF.functions`. Lines that name the element of the centre give functions that are 0 for other centres.

    Raises
    ------
    ConfigError
        If a line cannot be read, a type is unknown, or there are no such lines; the message names file, line and remedy.

    Examples
    --------
    >>> read_functions("symfunction_short H 2 O 0.5 1.0 6.0")[0].neighbours
    (8,)
    """
    lines = [(k, line.split("#")[0].split()) for k, line in enumerate(text.splitlines(), 1)]
    shape = _cutoff_type(next(((k, words) for k, words in lines if words[:1] == ["cutoff_type"]), None), source)
    found = []
    for k, words in lines:
        if not words or words[0] not in KEYWORDS:
            continue
        try:
            found.append(_function(words[0], words[1:], shape, length_unit))
        except (ValueError, KeyError, IndexError) as error:
            reason = error if isinstance(error, ConfigError) else "cannot be read"
            raise ConfigError(f"{source}, line {k}: {quoted(' '.join(words))}: {reason}") from error
    if not found:
        raise ConfigError(f"{source}: no line begins with {' or '.join(KEYWORDS)}; give the input.nn of a potential")
    return tuple(found)


def _cutoff_type(line: tuple[int, list[str]] | None, source: str) -> CutoffFunction:
    """The cutoff function with a cutoff of 1."""
    if line is None:
        return CutoffFunction(1.0)
    k, words = line
    try:
        kind = CUTOFF_FUNCTIONS[:-1][int(words[1])]
        return CutoffFunction(
            1.0, kind, float(words[2]) if len(words) > 2 and kind not in ("tanh", "tanhu", "hard") else 0.0
        )
    except (ValueError, IndexError) as error:
        reason = error if isinstance(error, ConfigError) else "must be cutoff_type 0 to 8, and alpha"
        raise ConfigError(f"{source}, line {k}: {quoted(' '.join(words))}: {reason}") from error


def _function(keyword: str, words: list[str], shape: CutoffFunction, unit: float) -> SymmetryFunction:
    centre = 0 if keyword.startswith("global") else atomic_numbers[words.pop(0)]
    number = int(words.pop(0))
    if number not in TYPES:
        raise ConfigError(f"type {number}: must be one of {', '.join(map(str, TYPES))}")
    kind, n_named, form = TYPES[number]
    named = n_named if keyword == "symfunction_short" else 0
    neighbours = tuple(sorted((atomic_numbers[words.pop(0)] for _ in range(named)), reverse=True))
    return replace(
        _shaped(kind, _named_values(form, words), shape, unit),
        weighted=n_named == 0,
        centre=centre,
        neighbours=neighbours,
    )


def _named_values(form: str, words: list[str]) -> dict:
    names = form.split()
    if not len([name for name in names if "[" not in name]) <= len(words) <= len(names):
        raise ConfigError(f"its parameters are {form}")
    pairs = zip((name.strip("[]") for name in names), words, strict=False)
    found = {name: word if name == "kind" else float(word) for name, word in pairs}
    if not all(math.isfinite(value) for value in found.values() if not isinstance(value, str)):
        raise ConfigError("its parameters must be finite")
    return found


def _shaped(kind: str, values: dict, shape: CutoffFunction, unit: float) -> SymmetryFunction:
    if kind.startswith("C"):
        factor = RadialFactor(CompactFunction(values["low"] * unit, values["high"] * unit, values["kind"]))
        if kind == "C20":
            return SymmetryFunction(kind, factor)
        return SymmetryFunction(
            kind, factor, window=CompactFunction(values["left"], values["right"], values["kind"].rstrip("a"))
        )
    cutoff = replace(shape, cutoff=values["rc"] * unit)
    inverse = {"eta": values.get("eta", 0.0) / unit**2, "kappa": values.get("kappa", 0.0) / unit}
    factor = RadialFactor(cutoff, r_s=values.get("rs", 0.0) * unit, **inverse)
    return SymmetryFunction(kind, factor, values.get("zeta", 1.0), values.get("lambda", 1.0))


def elements_of(functions: tuple[SymmetryFunction, ...]) -> tuple[int, ...]:
    """Sorted atomic numbers that occur in functions."""
    found = {z for f in functions for z in (*f.neighbours, f.centre) if z}
    return tuple(sorted(z for z in found if z < len(chemical_symbols)))


def reach_of(functions: tuple[SymmetryFunction, ...]) -> float:
    """Largest cutoff of functions, A."""
    return max(f.factor.end for f in functions)
