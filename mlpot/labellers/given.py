"""Calculators that a script gives as objects: a class, a factory, or one that is made already."""

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

from ..errors import ConfigError
from .calculator import CalculatorLabeller, imported

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenLabeller(CalculatorLabeller):
    """A calculator that exists; a copy of it, without results, makes each label.

    Parameters
    ----------
    instance : ase.calculators.calculator.Calculator
        Without results.
    """

    instance: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """Its class, and those of its parameters that can be recorded."""
        parameters = dict(getattr(self.instance, "parameters", None) or {})
        return {"calculator": self.calculator, "parameters": {k: v for k, v in parameters.items() if _is_plain(v)}}

    def factory(self) -> Callable:
        """Makes copies."""
        return partial(copy.deepcopy, self.instance)

    def check(self) -> None:
        """Nothing: it is made already."""


class InThisProcess(Executor):
    """Runs a task when it is given, for what cannot be sent to another process: without a time-out, and a crash ends all."""

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """The finished task."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # whoever asks for the result gets it
            future.set_exception(error)
        return future


def named(calculator: Any, parameters: dict[str, Any]) -> tuple[str, Any]:
    """The import path of what a script gave as calculator, and the calculator itself where a path is not enough, else None.

    Parameters
    ----------
    calculator : str, class, callable or ASE calculator
    parameters : dict
        Of the calculator; an instance has them already.

    Raises
    ------
    ConfigError
        If it is nothing of these.
    """
    if isinstance(calculator, str):
        return calculator, None
    is_instance = hasattr(calculator, "get_forces") and not isinstance(calculator, type)
    if not is_instance and not callable(calculator):
        raise ConfigError(
            f"calculator = {calculator!r}: must be an ASE calculator, its class, a function that makes it, or an import path "
            "such as 'ase.calculators.emt.EMT'"
        )
    if is_instance and parameters:
        raise ConfigError("parameters: the calculator is made already; give its class instead, or no parameters")
    if not is_instance:
        path = f"{calculator.__module__}:{getattr(calculator, '__qualname__', '')}"
        if _imports(path) is calculator:
            return path, None
        calculator = calculator(**parameters)
    kind = type(calculator)
    instance = copy.deepcopy(calculator)
    if hasattr(instance, "reset"):
        instance.reset()
    return f"{kind.__module__}:{kind.__qualname__}", instance


def why_not_elsewhere(instance: Any) -> str | None:
    """Why a calculator cannot be sent to another process, or None."""
    kind = type(instance)
    if _imports(f"{kind.__module__}:{kind.__qualname__}") is not kind:
        return f"{kind.__qualname__} is defined in the script"
    try:
        pickle.dumps(instance)
    except Exception as error:  # objects refuse in ways of their own
        return f"{type(error).__name__}: {error}"
    return None


def _imports(path: str) -> Any:
    """What another process finds under an import path, or None."""
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
