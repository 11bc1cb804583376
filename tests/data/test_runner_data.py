"""input.data of n2p2 and RuNNer, in bohr and Hartree, is read as it is."""

import numpy as np

import mlpot

INPUT_DATA = """\
begin
comment two atoms
lattice 10.0 0.0 0.0
lattice 0.0 12.0 0.0
lattice 0.0 0.0 14.0
atom 0.0 0.0 0.0 Cu 0.0 0.0 0.01 0.0 0.0
atom 4.0 0.0 0.0 O 0.0 0.0 -0.01 0.0 0.0
energy -1.5
charge 0.0
end
"""
BOHR, HARTREE = 0.529177210903, 27.211386245988  # A, eV: CODATA 2018


def test_units(tmp_path):
    (tmp_path / "input.data").write_text(INPUT_DATA)
    (atoms,) = mlpot.read(tmp_path / "input.data")
    assert atoms.get_chemical_symbols() == ["Cu", "O"]
    np.testing.assert_allclose(atoms.cell.lengths(), np.array([10, 12, 14]) * BOHR, rtol=1e-6)
    np.testing.assert_allclose(atoms.get_distance(0, 1), 4 * BOHR, rtol=1e-6)
    np.testing.assert_allclose(atoms.get_potential_energy(), -1.5 * HARTREE, rtol=1e-6)
    np.testing.assert_allclose(atoms.get_forces()[:, 0], np.array([1, -1]) * 0.01 * HARTREE / BOHR, rtol=1e-6)
