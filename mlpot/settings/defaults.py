"""Defaults of labels, in a module without pydantic: processes that make labels import it, and a tenth of a second each counts."""

DEFAULT_CALCULATOR = "tblite.ase.TBLite"
NET_FORCE_TOLERANCE = 0.02
"""eV/A per atom. Codes without a grid (xTB, Gaussian orbitals) and plane-wave codes, which remove a net force or leave 1e-3, are
far below; real-space grids leave up to 0.01. Errors above it are not small compared with the usual noise of forces."""
