"""Labels from any ASE calculator, named by its import path."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from ..errors import SHORT, ConfigError, LabelError, ResourceError, system_trouble
from ..settings.defaults import DEFAULT_CALCULATOR
from . import last_words
from .protocol import LAUNCHER, NET_FORCE_TOLERANCE, Label, check_geometry, check_label
from .scratch import scratch_folder

PLACE = "{launcher}"
INSTALL_HINTS = {"tblite": "pip install tblite", "gpaw": "pip install gpaw", "xtb": "pip install xtb"}


@dataclass(frozen=True)
class CalculatorLabeller:
    """An ASE calculator, made anew for each label, in a scratch folder of its own.

    Parameters
    ----------
    calculator : str
        "package.module.Class", or "package.module:function" for any function that returns a calculator.
    parameters : dict
        Its keyword arguments; plain numbers, strings, lists and tables. Paths in them must be absolute, since
        each calculation runs in its own folder. {launcher} in a string stands for the launcher of a batch job, else nothing.
    net_force_tolerance : float or None
        Largest net force of a label that is believed, eV/A per atom; None where something outside pulls at the atoms.

    Notes
    -----
    A calculator that knows which version of which code it runs says so in an attribute `code`, a string that is recorded
    with each label.
    """

    calculator: str = DEFAULT_CALCULATOR
    parameters: dict[str, Any] = field(default_factory=dict)
    net_force_tolerance: float | None = NET_FORCE_TOLERANCE

    @property
    def settings(self) -> dict[str, Any]:
        """Calculator and parameters."""
        return {"calculator": self.calculator, "parameters": self.parameters}

    @property
    def modules(self) -> tuple[str, ...]:
        """What a worker may import before its label comes: `preload` of the executor."""
        return (__name__, "mlpot.labels.inbox", _split(self.calculator)[0])

    def varied(self, changes: dict[str, Any]) -> CalculatorLabeller:
        """The same with other parameters: those of `changes` replace those of the same name, in tables name by name."""
        return replace(self, parameters=_merged(self.parameters, changes))

    def factory(self) -> Callable:
        """The calculator's class, imported.

        Raises
        ------
        ConfigError
            If it cannot be imported.
        """
        here = f"labeller.calculator = {self.calculator!r}"
        module, name = _split(self.calculator)
        if not module or not name or module.startswith("."):
            raise ConfigError(f"{here}: must be an import path such as {DEFAULT_CALCULATOR!r}")
        try:
            found = imported(self.calculator)
        except ImportError as error:
            hint = INSTALL_HINTS.get(module.split(".")[0], f"install the package that provides {module}")
            raise ConfigError(f"{here}: cannot be imported ({error}); {hint}, or check the spelling") from error
        except AttributeError as error:
            raise ConfigError(f"{here}: {module} has no {name!r}; check the spelling") from error
        if not callable(found):
            raise ConfigError(f"{here}: is {type(found).__name__}, not a class or a function")
        return found

    def check(self) -> None:
        """What can be known without a calculation: the calculator is importable and takes the parameters.

        Raises
        ------
        ConfigError
            If it is not, or does not.
        """
        factory = self.factory()
        here = f"labeller.parameters = {self.parameters!r}"
        try:
            json.dumps(self.settings)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{here}: only numbers, strings, lists and tables can be recorded ({error})") from error
        with scratch_folder():
            try:
                made = factory(**_launched(self.parameters))
            except ConfigError:
                raise
            except Exception as error:  # constructors raise whatever they like
                if isinstance(error, OSError) and error.errno in SHORT:
                    raise
                raise ConfigError(
                    f"{here}: {self.calculator} does not take them ({type(error).__name__}: {error})"
                ) from error
        if not hasattr(made, "get_forces") or not hasattr(made, "get_potential_energy"):
            raise ConfigError(f"labeller.calculator = {self.calculator!r}: {type(made).__name__} is no ASE calculator")

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and, with a three-dimensional cell, stress.

        Constraints of `atoms` play no part: a label holds what the atoms feel.

        Raises
        ------
        ConfigError
            If the calculator cannot be imported, or says so of its parameters.
        LabelError
            If it raises; or what it returns is not finite, of the wrong shape, has a net force, or belongs to another geometry.
            ResourceError for want of room or open files.
        """
        factory = self.factory()
        work = atoms.copy()
        work.set_constraint()
        started = time.perf_counter()
        with scratch_folder() as folder:
            try:
                work.calc = factory(**_launched(self.parameters))
                label = self._ask(atoms, work, started)
            except (ConfigError, LabelError):
                raise
            except Exception as error:  # whatever a calculator raises means that it did not deliver
                if isinstance(error, OSError) and error.errno in SHORT:
                    raise ResourceError(f"{self.calculator} failed: {system_trouble(error)}") from error
                said = last_words.of_folder(folder)
                said = f"; {said}" if said else ""
                raise LabelError(f"{self.calculator} failed: {type(error).__name__}: {error}{said}") from error
            check_label(atoms, label, self.net_force_tolerance)
        return label

    def _ask(self, sent: Atoms, atoms: Atoms, started: float) -> Label:
        forces = _real("forces", atoms.get_forces())
        # at once: asked for more, a calculator that has moved the atoms starts again from where they were
        _check_unmoved(sent, atoms)
        # the forces are the derivative of the free energy, where smearing makes it differ from the energy
        energy = float(_real("energy", atoms.calc.results.get("free_energy", atoms.get_potential_energy())))
        stress = _stress(atoms)
        _check_unmoved(sent, atoms)
        code = getattr(atoms.calc, "code", None)
        settings = {**self.settings, "code": code} if isinstance(code, str) else self.settings
        return Label(energy, forces, stress, time.perf_counter() - started, settings)


def _real(name: str, value: Any) -> np.ndarray:
    """A result as real numbers; NumPy would drop imaginary parts with a warning that nobody sees."""
    if np.iscomplexobj(value):
        raise LabelError(f"label: {name} holds complex numbers; the calculator must return real ones")
    return np.array(value, float)


def _check_unmoved(sent: Atoms, atoms: Atoms) -> None:
    check_geometry(sent, atoms, "the structure after the calculation")
    calculated = getattr(atoms.calc, "atoms", None)  # not every calculator keeps it
    if isinstance(calculated, Atoms):
        check_geometry(sent, calculated, "the calculator")


def _merged(table: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {name for name in changes if isinstance(changes[name], dict) and isinstance(table.get(name), dict)}
    return {**table, **changes, **{name: _merged(table[name], changes[name]) for name in both}}


def _launched(value: Any) -> Any:
    """Parameters with the launcher of the job in place of {launcher}, which is no part of the level of theory."""
    if isinstance(value, dict):
        return {name: _launched(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_launched(inner) for inner in value]
    return value.replace(PLACE, os.environ.get(LAUNCHER, "")).strip() if isinstance(value, str) and PLACE in value else value


def imported(path: str) -> Any:
    """The object at an import path; ImportError or AttributeError where there is none."""
    module, name = _split(path)
    return attrgetter(name)(import_module(module))


def _split(path: str) -> tuple[str, str]:
    """Module and name of an import path."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    return module, name


def _stress(atoms: Atoms) -> np.ndarray | None:
    """Stress (3, 3) in eV/A^3 where there are three cell vectors, periodic along one at least, and the calculator has it."""
    if atoms.cell.rank < 3 or not np.any(atoms.pbc) or "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        return None
    try:
        return voigt_6_to_full_3x3_stress(_real("stress", atoms.get_stress()))
    except NotImplementedError:  # some calculators list stress and have it for some of their methods only
        return None
