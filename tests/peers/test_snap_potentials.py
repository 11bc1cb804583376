"""Imported SNAP potentials against LAMMPS' pair_style snap."""

import numpy as np
import pytest
from snap_files import by_id, load_atoms, start_lammps
from snap_potentials import write_snap
from test_snap_components import alloy, silicon

import mlpot

CASES = {
    "linear": (silicon(), ["Si"], {"twojmax": 6}),
    "quadratic": (silicon(), ["Si"], {"quadraticflag": 1, "bzeroflag": 0}),
    "two elements": (alloy(), ["Si", "C"], {"rmin0": 0.3, "rfac0": 0.95}),
    "quadratic, two elements": (alloy(), ["Si", "C"], {"quadraticflag": 1, "bnormflag": 1}),
    "channels": (alloy(), ["Si", "C"], {"chemflag": 1, "bnormflag": 1, "wselfallflag": 1, "twojmax": 3}),
    "channels, lone centre": (alloy(), ["Si", "C"], {"chemflag": 1, "bnormflag": 0, "wselfallflag": 0, "twojmax": 2}),
}


def of_lammps(atoms, symbols, files):
    """Energy (eV), forces (eV/A) and stress (eV/A^3) from LAMMPS."""
    engine = start_lammps()
    try:
        prism = load_atoms(engine, atoms, symbols)
        engine.commands_list(["pair_style snap", f"pair_coeff * * {files[0]} {files[1]} {' '.join(symbols)}", "run 0 post no"])
        forces = prism.vector_to_ase(by_id(engine, np.array(engine.numpy.extract_atom("f")), len(atoms)))
        xx, yy, zz, xy, xz, yz = (engine.get_thermo(f"p{k}") for k in ("xx", "yy", "zz", "xy", "xz", "yz"))
        stress = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) / 1.602176634e6
        return engine.get_thermo("pe"), forces, prism.tensor2_to_ase(stress)
    finally:
        engine.close()


@pytest.mark.parametrize(("atoms", "symbols", "flags"), CASES.values(), ids=CASES)
def test_energies_forces_and_stresses(atoms, symbols, flags, tmp_path):
    words = dict(flags)
    files = write_snap(tmp_path, symbols, words.pop("twojmax", 4), **words)
    p = mlpot.read_snap(*files).predict(atoms)
    energy, forces, stress = of_lammps(atoms, symbols, files)
    assert np.abs(forces).max() > 0.01
    assert p.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(p.forces, forces, rtol=1e-8, atol=1e-8)
    # LAMMPS prints pressures in bar, with its own value of the unit
    np.testing.assert_allclose(p.stress, stress, rtol=1e-7, atol=1e-8)
