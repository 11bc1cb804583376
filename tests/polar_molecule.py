"""A calculator for molecules of point charges on springs: energies, forces and dipoles, and a tensor, from formulas."""

from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

CHARGES = {1: 0.35, 8: -0.7, 9: -0.35}
"""By atomic number, e."""


class PolarMolecule(Calculator):
    """Springs (eV/A^2) of length `length` (A) between all atoms closer than 2 A; the dipole is that of charges at the atoms."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces", "dipole"]
    default_parameters: ClassVar = {"spring": 30.0, "length": 0.95}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        spring, length = self.parameters["spring"], self.parameters["length"]
        energy, forces, tensor = 0.0, np.zeros((len(self.atoms), 3)), 2.0 * np.eye(3)
        for i in range(len(self.atoms)):
            for j in range(i):
                bond = self.atoms.positions[i] - self.atoms.positions[j]
                r = np.linalg.norm(bond)
                wanted = length if r < 1.25 else 1.6 * length
                energy += 0.5 * spring * (r - wanted) ** 2
                pull = spring * (r - wanted) * bond / r
                forces[i] -= pull
                forces[j] += pull
                tensor += np.outer(bond, bond)
        charges = np.array([CHARGES[z] for z in self.atoms.numbers])
        self.results = {
            "energy": energy, "free_energy": energy, "forces": forces, "dipole": charges @ self.atoms.positions,
            "polarizability": tensor,
        }  # fmt: skip


class NoDipole(PolarMolecule):
    """Announces a dipole, which it does not give."""

    def calculate(self, *arguments, **more):
        super().calculate(*arguments, **more)
        del self.results["dipole"]


class Unpolar(PolarMolecule):
    """Does not announce a dipole."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]
