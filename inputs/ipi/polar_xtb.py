"""GFN-xTB that gives polarisabilities as well, for learn_raman.toml: derivatives of dipoles with respect to an electric field."""

import numpy as np
from ase.calculators.calculator import all_changes
from tblite.ase import TBLite
from tblite.interface import Calculator
from tblite.library import ffi

from mlpot.units import BOHR

FIELD = 2e-3
"""In hartree / (e bohr): small enough for a linear response, large beside what is left of the self-consistent cycle."""


class PolarXtb(TBLite):
    """TBLite with results["polarizability"] (3, 3), A^3, of molecules and clusters; seven calculations in place of one."""

    implemented_properties = [*TBLite.implemented_properties, "polarizability"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """As ASE's; periodic structures have no polarisability in this sense."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise ValueError("a field along a periodic direction has no potential; take a cluster")
        slopes = [(self._dipole(FIELD * axis) - self._dipole(-FIELD * axis)) / (2 * FIELD) for axis in np.eye(3)]
        alpha = np.array(slopes) * BOHR**3
        self.results["polarizability"] = (alpha + alpha.T) / 2

    def _dipole(self, field):
        """In a field, atomic units. ASE's interface of tblite 0.5 does not pass fields on."""
        calculator = Calculator(self.parameters.method, self.atoms.numbers, self.atoms.positions / BOHR)
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 0.01)
        vector = np.ascontiguousarray(field, float)
        calculator.add("electric-field", ffi.cast("double*", vector.ctypes.data))
        return calculator.singlepoint().get("dipole")
