"""Units: eV, angstrom, amu and ASE's time inside; every conversion from or to anything else is named here."""

from ase import units as _ase

FEMTOSECOND = _ase.fs
"""One femtosecond in ASE's unit of time."""
BOLTZMANN = _ase.kB
"""Boltzmann's constant in eV/K."""
GIGAPASCAL = _ase.GPa
"""One GPa in eV/A^3."""
BAR = _ase.bar if hasattr(_ase, "bar") else 1e-4 * _ase.GPa
"""One bar in eV/A^3."""
COULOMB_CONSTANT = 14.399645478425668
"""e^2 / (4 pi eps0) in eV A (CODATA 2018)."""
BOHR = _ase.Bohr
"""One bohr in A."""
HARTREE = _ase.Hartree
"""One hartree in eV."""
HOUR = 3600.0
"""One hour in seconds."""
MILLI = 1e-3
"""eV in meV."""
AVOGADRO, LIGHT = _ase._Nav, _ase._c
"""1/mol; speed of light in m/s."""
KM_PER_MOL = _ase._Nav * _ase._e**2 / (12.0 * _ase._eps0 * _ase._c**2 * _ase._amu) / 1000.0
"""Infrared intensity of a vibration whose dipole derivative is one e per square root of the amu, in km/mol: N_A / (12 eps0 c^2)."""
