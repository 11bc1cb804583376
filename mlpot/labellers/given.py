"""Calculators that a script passes as objects: a class, a function that makes one, or a calculator."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from ase import Atoms

from ..errors import ConfigError, quoted
from ..import_paths import imported
from .calculator import CalculatorLabeller
from .other_results import check_gives

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenLabeller(CalculatorLabeller):
    """Labels from an existing calculator; each is made by a copy of it, if it can be copied.

    Parameters
    ----------
    instance : ase.calculators.calculator.Calculator
        The calculator; a copy without results, if it can be copied.
    """

    instance: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """Class of the calculator, and all parameters that can be recorded."""
        parameters = dict(getattr(self.instance, "parameters", None) or {})
        return {"calculator": self.calculator, "parameters": {k: v for k, v in parameters.items() if _is_plain(v)}}

    def factory(self) -> Callable:
        """A function that copies the calculator, if it can be copied."""
        return partial(_copied, self.instance)

    def check(self) -> None:
        """ConfigError if the calculator does not compute what is wanted."""
        check_gives(self.instance, self.wanted, self.calculator)


class InThisProcess(Executor):
    """Runs tasks at once in this process, for calculators that cannot be sent to another one; without time limit.

    A crash of the task ends this process.
    """

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Run fn(*args, **kwargs); returns the finished task."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # raised again by future.result()
            future.set_exception(error)
        return future


def named(calculator: Any, parameters: dict[str, Any]) -> tuple[str, Any]:
    """The import path of the calculator that a script has passed, and the calculator itself if the path is not enough, else None.

    Parameters
    ----------
    calculator : str, class, callable or ASE calculator
    parameters : dict
        Keyword arguments of the class or function; empty for a calculator.

    Raises
    ------
    ConfigError
        If `calculator` is of another kind.
    """
    if isinstance(calculator, str):
        return calculator, None
    is_instance = hasattr(calculator, "get_forces") and not isinstance(calculator, type)
    if isinstance(calculator, Atoms) or not (is_instance or callable(calculator)):
        raise ConfigError(
            f"calculator = {quoted(calculator)}: must be an ASE calculator, its class, a function that makes it, or an import path "
            "such as 'ase.calculators.emt.EMT'"
        )
    if is_instance and parameters:
        raise ConfigError("parameters: cannot be given for an existing calculator; pass its class instead, or no parameters")
    if not is_instance:
        path = f"{calculator.__module__}:{getattr(calculator, '__qualname__', '')}"
        if _imports(path) is calculator:
            return path, None
        calculator = calculator(**parameters)
    kind = type(calculator)
    instance = _copied(calculator)
    if instance is not calculator and hasattr(instance, "reset"):
        instance.reset()
    return f"{kind.__module__}:{kind.__qualname__}", instance


def _copied(calculator: Any) -> Any:
    """A copy, or the calculator itself if it holds what has no copy: a file, a socket, a program that it talks to."""
    try:
        return copy.deepcopy(calculator)
    except Exception:  # objects raise anything when they cannot be copied
        return calculator


def why_not_elsewhere(instance: Any) -> str | None:
    """Why a calculator cannot be sent to another process; None if it can."""
    kind = type(instance)
    if _imports(f"{kind.__module__}:{kind.__qualname__}") is not kind:
        return f"{kind.__qualname__} is defined in the script"
    try:
        pickle.dumps(instance)
    except Exception as error:  # objects raise anything when they cannot be pickled
        return f"{type(error).__name__}: {error}"
    return None


def _imports(path: str) -> Any:
    """The object that another process finds under an import path, or None."""
    if path.startswith("__main__:") or "<" in path:
        return None
    try:
        return imported(path)
    except (ImportError, AttributeError):
        return None


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
