"""Symmetry functions as tables of numbers and words, as files and settings hold them: everything about a function, written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import ConfigError, quoted
from .acsf_functions import RadialFactor, SymmetryFunction, parse_function
from .cutoff_functions import CompactFunction, CutoffFunction

Entry = SymmetryFunction | Mapping[str, Any] | Sequence


def record_of(function: SymmetryFunction) -> dict[str, Any]:
    """The fields of a function, and of what it is made of, as nested tables."""
    return asdict(function)


def function_of(record: Mapping[str, Any]) -> SymmetryFunction:
    """The function of a record.

    Raises
    ------
    ConfigError
        For a key that is missing, unknown or has an impossible value.

    Examples
    --------
    >>> function = parse_function(["G2", 0.5, 1.0], CutoffFunction(4.0))
    >>> function_of(record_of(function)) == function
    True
    """
    try:
        factor, window = dict(record["factor"]), record["window"]
        cutoff = factor.pop("cutoff")
        shape = CutoffFunction if "cutoff" in cutoff else CompactFunction
        found = {
            **record,
            "factor": RadialFactor(shape(**cutoff), **factor),
            "window": None if window is None else CompactFunction(**window),
            "neighbours": tuple(int(z) for z in record["neighbours"]),
        }
        return SymmetryFunction(**found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"functions: {quoted(record, 120)}: is no symmetry function ({quoted(error, 80)})") from error


def read_entry(entry: Entry, cutoff: CutoffFunction, weighted: bool) -> SymmetryFunction:
    """A function from any of the ways to give it: itself, a record, or a list such as ["G2", 0.5, 1.0]."""
    if isinstance(entry, SymmetryFunction):
        return entry
    return function_of(entry) if isinstance(entry, Mapping) else parse_function(entry, cutoff, weighted)
