"""What a server's first structure tells of the template, and molecules that it tore."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlpot.drivers.ipi_template import Template
from mlpot.errors import StructureError
from mlpot.units import BOHR


def alloy():
    atoms = bulk("Cu", a=3.8, cubic=True).repeat((2, 1, 1))
    atoms.numbers[[0, 3, 5]] = 79
    return atoms


def test_another_order_is_refused():
    atoms = alloy()
    atoms.rattle(0.05, seed=1)
    sorted_ones = atoms[np.argsort(atoms.numbers)]
    Template(atoms).check(atoms)
    with pytest.raises(StructureError, match=r"atom \d of the server lies where the template has atom \d: .* Cu, .* Au; give a temp"):
        Template(sorted_ones).check(atoms)


def test_the_order_of_equal_atoms_does_not_matter():
    atoms = bulk("Cu", cubic=True)
    Template(atoms[[2, 0, 3, 1]]).check(atoms)


def test_over_the_border_of_the_cell():
    """Places are the same ones modulo lattice vectors."""
    atoms = alloy()
    moved = atoms.copy()
    moved.positions += 0.01 - atoms.cell.array[0] + 3 * atoms.cell.array[2]
    Template(atoms).check(moved)
    with pytest.raises(StructureError, match="lies where"):
        Template(atoms[np.argsort(atoms.numbers)]).check(moved)


def test_a_start_from_elsewhere_says_nothing():
    atoms, other = alloy(), alloy()
    other.rattle(0.8, seed=3)
    Template(atoms[np.argsort(atoms.numbers)]).check(other)


@pytest.mark.parametrize(("factor", "word"), [(1 / BOHR, "too large"), (BOHR, "too small")])
def test_bohr_taken_for_angstrom(factor, word):
    atoms = alloy()
    other = atoms.copy()
    other.set_cell(factor * atoms.cell.array, scale_atoms=True)
    with pytest.raises(StructureError, match=word):
        Template(atoms).check(other)


def test_a_torn_molecule_is_put_together():
    ethanol = molecule("CH3CH2OH")
    cell = np.array([[12.0, 0, 0], [1.0, 11.0, 0], [0, 2.0, 13.0]])
    wrapped = Atoms(ethanol.symbols, ethanol.positions, cell=cell, pbc=True)
    wrapped.wrap()
    assert np.ptp(wrapped.positions, axis=0).max() > 6
    mended = Template(ethanol).mended(cell, wrapped.positions)
    apart = mended[:, None] - mended
    np.testing.assert_allclose(apart, ethanol.positions[:, None] - ethanol.positions, atol=1e-12)
    np.testing.assert_array_equal(Template(ethanol).mended(cell, ethanol.positions), ethanol.positions)


def test_two_molecules_and_a_slab():
    pair = molecule("H2O")
    other = molecule("H2O")
    other.translate([0, 0, 3.0])
    pair += other
    cell = 10.0 * np.eye(3)
    wrapped = Atoms(pair.symbols, pair.positions, cell=cell, pbc=True)
    wrapped.wrap()
    mended = Template(pair).mended(cell, wrapped.positions)
    np.testing.assert_allclose(mended - mended[0], pair.positions - pair.positions[0], atol=1e-12)
    pair.pbc = [True, True, False]  # only what is not periodic is moved
    mended = Template(pair).mended(cell, wrapped.positions)
    np.testing.assert_array_equal(mended[:, :2], wrapped.positions[:, :2])
    pair.pbc = True
    assert Template(pair).mended(cell, wrapped.positions) is wrapped.positions


def test_without_a_cell_nothing_is_moved():
    water = molecule("H2O")
    assert Template(water).mended(np.zeros((3, 3)), water.positions) is water.positions
