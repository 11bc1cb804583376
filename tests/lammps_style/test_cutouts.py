"""Blocks cut out of large structures: crystals at multiples of their period, slabs in their plane, nothing too close."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, diamond100
from core_models import made

from mlpot.lammps.cutouts import block_around


def crystal(shear=0.3):
    atoms = bulk("Si", cubic=True).repeat((6, 6, 6))
    atoms.rattle(0.12, seed=1)
    atoms.set_cell(atoms.cell.array + shear * np.eye(3)[[1, 2, 0]], scale_atoms=True)
    return atoms


@pytest.mark.parametrize("centre", [0, 700, 1500])
def test_a_crystal_is_cut_at_its_period(centre):
    atoms = crystal()
    block, indices = block_around(atoms, centre, 10.0)
    assert len(block) == 64 and centre in indices and block.pbc.all()
    np.testing.assert_allclose(block.cell.lengths(), 2 * 5.43, rtol=0.03)
    np.testing.assert_allclose(block.cell.angles(), atoms.cell.angles())
    assert block.get_all_distances(mic=True)[np.triu_indices(64, 1)].min() > 1.6


def test_the_middle_feels_what_it_felt():
    """Forces within the cutoff of the faces differ, in the middle they are the same: with a short-sighted model, of the centre."""
    atoms, model = crystal(), made("one element")
    block, indices = block_around(atoms, 700, 14.0)
    own = int(np.flatnonzero(indices == 700)[0])
    forces = model.predict(atoms).forces[indices]
    np.testing.assert_allclose(model.predict(block).forces[own], forces[own], atol=1e-9)


def test_a_slab_is_cut_in_its_plane():
    slab = diamond100("Si", (8, 8, 9), vacuum=8.0)
    slab.rattle(0.1, seed=2)
    slab.pbc = (True, True, False)
    block, _ = block_around(slab, 100, 10.0)
    assert len(block) == 81 and block.cell.lengths()[2] == slab.cell.lengths()[2]
    np.testing.assert_array_equal(block.pbc, slab.pbc)


def test_disorder_leaves_nothing_too_close():
    rng = np.random.default_rng(0)
    atoms = Atoms("Si300", rng.uniform(0, 20, (300, 3)), cell=[20, 20, 20], pbc=True)
    block, _ = block_around(atoms, 5, 8.0)
    shortest = np.sort(atoms.get_all_distances(mic=True), axis=1)[:, 1].min()
    assert 0 < len(block) < 120 and np.sort(block.get_all_distances(mic=True), axis=1)[:, 1].min() >= 0.75 * shortest


@pytest.mark.parametrize("atoms", [bulk("Si", cubic=True), Atoms("Si3", np.eye(3))])
def test_what_is_small_stays_whole(atoms):
    block, indices = block_around(atoms, 1, 10.0)
    assert len(block) == len(atoms) == len(indices)
