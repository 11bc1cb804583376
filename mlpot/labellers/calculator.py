"""Labels from any ASE calculator, named by its import path."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress

from ..errors import ConfigError, LabelError
from .protocol import Label, check_label

DEFAULT_CALCULATOR = "tblite.ase.TBLite"
INSTALL_HINTS = {"tblite": "pip install tblite", "gpaw": "pip install gpaw", "xtb": "pip install xtb"}


@dataclass(frozen=True)
class CalculatorLabeller:
    """An ASE calculator, made anew for each label, in a scratch folder of its own.

    Parameters
    ----------
    calculator : str
        "package.module.Class", or any importable function that returns a calculator.
    parameters : dict
        Its keyword arguments.
    """

    calculator: str = DEFAULT_CALCULATOR
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Calculator and parameters."""
        return {"calculator": self.calculator, "parameters": self.parameters}

    def factory(self) -> Callable:
        """The calculator's class, imported.

        Raises
        ------
        ConfigError
            If it cannot be imported.
        """
        module, dot, name = self.calculator.rpartition(".")
        if not dot:
            raise ConfigError(
                f"labeller.calculator = {self.calculator!r}: must be an import path such as {DEFAULT_CALCULATOR!r}"
            )
        try:
            return getattr(import_module(module), name)
        except ImportError as error:
            hint = INSTALL_HINTS.get(module.split(".")[0], f"install the package that provides {module}")
            raise ConfigError(f"labeller.calculator = {self.calculator!r}: cannot be imported ({error}); {hint}") from error
        except AttributeError as error:
            raise ConfigError(f"labeller.calculator = {self.calculator!r}: {module} has no {name!r}; check the spelling") from error

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and, with a three-dimensional cell, stress.

        Raises
        ------
        LabelError
            If the calculator raises, or what it returns is not finite or of the wrong shape.
        """
        factory = self.factory()
        work = atoms.copy()
        started = time.perf_counter()
        with scratch_folder():
            try:
                work.calc = factory(**self.parameters)
                label = self._ask(work, started)
            except Exception as error:  # whatever a calculator raises means that it did not deliver
                raise LabelError(f"{self.calculator} failed: {type(error).__name__}: {error}") from error
        check_label(atoms, label)
        return label

    def _ask(self, atoms: Atoms, started: float) -> Label:
        forces = np.array(atoms.get_forces(), float)
        # the forces are the derivative of the free energy, where smearing makes it differ from the energy
        energy = float(atoms.calc.results.get("free_energy", atoms.get_potential_energy()))
        return Label(energy, forces, _stress(atoms), time.perf_counter() - started, self.settings)


def _stress(atoms: Atoms) -> np.ndarray | None:
    """Stress (3, 3) in eV/A^3 where there is a three-dimensional cell and the calculator has it."""
    if not np.all(atoms.pbc) or "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        return None
    try:
        return voigt_6_to_full_3x3_stress(atoms.get_stress())
    except PropertyNotImplementedError:
        return None


@contextmanager
def scratch_folder():
    """Work in an empty folder of the node's local disk, and come back."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="mlpot-label-") as folder:
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(home)
