"""Import paths that users write, "package.module.name" or "package.module:name", and arguments of what they import."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any

from .errors import ConfigError


def split_path(path: str) -> tuple[str, str]:
    """Module and name of an import path."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    return module, name


def imported(path: str) -> Any:
    """The object at an import path; ImportError or AttributeError if there is none."""
    module, name = split_path(path)
    return attrgetter(name)(import_module(module))


def check_parameter_names(calculator: Any, parameters: Mapping[str, Any], section: str) -> None:
    """Check that no name resembles a parameter of an ASE calculator but is none.

    ASE's base class accepts any name, so a misspelt method would mean results at the default level of theory.

    Parameters
    ----------
    calculator : type
        Functions that make calculators refuse unknown arguments by themselves.
    parameters : dict
        Keyword arguments by name.
    section : str
        In messages: where the parameters are from.

    Raises
    ------
    ConfigError
        With the right name.
    """
    known = set(getattr(calculator, "default_parameters", None) or {})
    if not isinstance(calculator, type) or not known:
        return
    accepted = known | set(inspect.signature(calculator).parameters)
    for name in parameters:
        near = [] if name in accepted else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near:
            raise ConfigError(
                f"{section}.{name}: {calculator.__name__} would ignore it; did you mean {near[0]!r}? If it is meant, "
                "name a function that makes the calculator"
            )
