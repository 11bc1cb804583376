"""A calculator's value of a target, a feature of the fit in addition to the kernels (delta learning)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..data.target_labels import DIPOLE, Origin, amount, label_of, vacuum
from ..data.targets import Target
from ..errors import BaselineError
from ..structures import bare_structure
from ..terms.calculator_baseline import CalculatorBaseline

STEP = 2e-3
"""Displacement for derivatives, A: errors of a difference of third order and of self-consistent cycles are both small."""


@dataclass(frozen=True)
class TargetBeneath:
    """Values of a target by a calculator.

    Parameters
    ----------
    calculator : CalculatorBaseline
    target : Target
        Of whole structures.
    unit : str
        Unit of the calculator's results, the same as for the labels.
    origin : Origin
    """

    calculator: CalculatorBaseline
    target: Target
    unit: str
    origin: Origin

    def value(self, atoms: Atoms) -> np.ndarray:
        """The part that adds up over atoms, in the shape of the target: dipoles about the centre of mass, properties times volume.

        Raises
        ------
        BaselineError
            If the calculator is not trusted, fails, or does not give the target as finite numbers of its shape.
        """
        name, bare = self.target.name, bare_structure(atoms)
        bare.info[name] = self.calculator.result(atoms, name)
        found = label_of(bare, name, self.target, self.unit, f"{self.calculator.settings.calculator} for {atoms.symbols}")
        if found is None:
            raise BaselineError(f"baseline.calculator = {self.calculator.settings.calculator!r}: has no {name} for {atoms.symbols}")
        if self.target == DIPOLE or self.origin.place is not None:
            found = found - self.origin.shift(atoms)
        return (found - vacuum(self.target)) * amount(self.target, atoms)

    def slopes(self, atoms: Atoms) -> np.ndarray:
        """Derivatives (n_atoms, 3, ...) of the value by central differences: six calculations for every atom."""
        found = np.zeros((len(atoms), 3, *self.target.shape))
        for i, k in np.ndindex(len(atoms), 3):
            for sign in (1.0, -1.0):
                moved = atoms.copy()
                moved.positions[i, k] += sign * STEP
                found[i, k] += sign * self.value(moved) / (2 * STEP)
        return found
