"""Labels from any ASE calculator, named by its import path."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from ..errors import SHORT, ConfigError, LabelError, ResourceError, system_trouble
from ..import_paths import check_parameter_names, imported, split_path
from ..settings.defaults import DEFAULT_CALCULATOR
from . import last_words
from .other_results import check_gives, others_of
from .protocol import LAUNCHER, NET_FORCE_TOLERANCE, Label, check_geometry, check_label
from .scratch import scratch_folder

PLACE = "{launcher}"
INSTALL_HINTS = {"tblite": "pip install tblite", "gpaw": "pip install gpaw", "xtb": "pip install xtb"}


@dataclass(frozen=True)
class CalculatorLabeller:
    """Labels from an ASE calculator, which is created for each label, in a scratch folder of its own.

    Parameters
    ----------
    calculator : str
        "package.module.Class", or "package.module:function" for any function that returns a calculator.
    parameters : dict
        Its keyword arguments: numbers, strings, lists and tables. Paths must be absolute, since each calculation runs in its own
        folder. {launcher} in a string is replaced by the launcher of a batch job; outside of one by nothing.
    net_force_tolerance : float or None
        Largest accepted net force, eV/A per atom; None with external forces.
    wanted : tuple of str
        Results that a label must have besides energy and forces; whatever else the calculator gives with them is kept as well.

    Notes
    -----
    If the calculator has an attribute `code`, a string with name and version of the program, it is recorded with each label.
    """

    calculator: str = DEFAULT_CALCULATOR
    parameters: dict[str, Any] = field(default_factory=dict)
    net_force_tolerance: float | None = NET_FORCE_TOLERANCE
    wanted: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Calculator and parameters."""
        return {"calculator": self.calculator, "parameters": self.parameters}

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that a worker may import before its label comes."""
        return (__name__, "mlpot.labels.inbox", split_path(self.calculator)[0])

    def varied(self, changes: dict[str, Any]) -> CalculatorLabeller:
        """The same with other parameters: `changes` replaces parameters by name, in tables entry by entry."""
        return replace(self, parameters=_merged(self.parameters, changes))

    def factory(self) -> Callable:
        """The calculator's class, imported.

        Raises
        ------
        ConfigError
            If it cannot be imported.
        """
        here = f"labeller.calculator = {self.calculator!r}"
        module, name = split_path(self.calculator)
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
            raise ConfigError(f"{here}: is of type {type(found).__name__}; must be a class or a function")
        return found

    def check(self) -> None:
        """Check without a calculation that the calculator can be imported and accepts the parameters.

        Raises
        ------
        ConfigError
            If it cannot be imported, or does not accept them.
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
                    f"{here}: {self.calculator} does not accept them ({type(error).__name__}: {error})"
                ) from error
        if not hasattr(made, "get_forces") or not hasattr(made, "get_potential_energy"):
            raise ConfigError(f"labeller.calculator = {self.calculator!r}: {type(made).__name__} is not an ASE calculator")
        check_parameter_names(factory, self.parameters, "labeller.parameters")
        check_gives(made, self.wanted, self.calculator)

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and, with three cell vectors, stress. Constraints of `atoms` are ignored.

        Raises
        ------
        ConfigError
            If the calculator cannot be imported, or raises it for its parameters.
        LabelError
            If the calculator raises anything else, or if its results are not finite, have a wrong shape or a net force, or belong to
            another structure. ResourceError if disk space or open files are exhausted.
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
            except Exception as error:  # anything that a calculator raises is a failed label
                if isinstance(error, OSError) and error.errno in SHORT:
                    raise ResourceError(f"{self.calculator} failed: {system_trouble(error)}") from error
                said = last_words.of_folder(folder)
                said = f"; {said}" if said else ""
                why = " ".join(str(error).split())
                raise LabelError(f"{self.calculator} failed: {type(error).__name__}: {why}{said}") from error
            check_label(atoms, label, self.net_force_tolerance)
        return label

    def _ask(self, sent: Atoms, atoms: Atoms, started: float) -> Label:
        forces = _real("forces", atoms.get_forces())
        # checked now: a calculator that has moved the atoms would start again when it is asked for more
        _check_unmoved(sent, atoms)
        # with smearing, the forces are the derivative of the free energy, not of the energy
        energy = float(_real("energy", atoms.calc.results.get("free_energy", atoms.get_potential_energy())))
        stress = _stress(atoms)
        others = others_of(atoms, self.wanted, self.calculator)
        _check_unmoved(sent, atoms)
        code = getattr(atoms.calc, "code", None)
        settings = {**self.settings, "code": code} if isinstance(code, str) else self.settings
        return Label(energy, forces, stress, time.perf_counter() - started, settings, others)


def _real(name: str, value: Any) -> np.ndarray:
    """A result as real numbers; NumPy would drop imaginary parts with nothing but a warning."""
    if np.iscomplexobj(value):
        raise LabelError(f"label: {name} has complex numbers; the calculator must return real ones")
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
    """Parameters with {launcher} replaced by the launcher of the job, which is not part of the level of theory."""
    if isinstance(value, dict):
        return {name: _launched(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_launched(inner) for inner in value]
    return value.replace(PLACE, os.environ.get(LAUNCHER, "")).strip() if isinstance(value, str) and PLACE in value else value


def _stress(atoms: Atoms) -> np.ndarray | None:
    """Stress (3, 3) in eV/A^3; None without three cell vectors and periodicity along one, or if the calculator has none."""
    if atoms.cell.rank < 3 or not np.any(atoms.pbc) or "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        return None
    try:
        return voigt_6_to_full_3x3_stress(_real("stress", atoms.get_stress()))
    except NotImplementedError:  # some calculators list the stress, but have it for some methods only
        return None
