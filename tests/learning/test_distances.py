"""Displacements between structures: translations, strains, atoms put back into the cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlpot.learning.distances import NEIGHBOUR, distance, nearest


def crystal():
    return bulk("Cu", cubic=True) * (2, 2, 2)


def test_the_largest_displacement_counts():
    moved = crystal()
    moved.positions[3] += [0.3, 0.0, 0.4]
    moved.positions[5] += [0.1, 0.0, 0.0]
    assert distance(moved, crystal()) == pytest.approx(0.5, abs=0.03)  # 1/32 of it is a translation
    assert distance(crystal(), crystal()) == 0.0


def test_translations_and_periodic_images_do_not_count():
    moved = crystal()
    moved.positions += [0.7, -1.9, 4.0]
    assert distance(moved, crystal()) < 1e-12
    moved.wrap()
    assert distance(moved, crystal()) < 1e-12
    one = Atoms("Ar", positions=[[3.0, 1.0, 7.0]])
    assert distance(one, Atoms("Ar")) == 0.0


def test_a_strain_counts_as_the_displacement_of_neighbours():
    strained = crystal()
    strained.set_cell(strained.cell.array * 1.04, scale_atoms=True)
    assert distance(strained, crystal()) == pytest.approx(0.04 * NEIGHBOUR)
    assert distance(crystal(), strained) == pytest.approx(0.04 / 1.04 * NEIGHBOUR)
    strained.positions[0, 0] += 0.2
    assert distance(strained, crystal()) == pytest.approx(0.04 * NEIGHBOUR + 0.2, abs=0.01)


def test_other_atoms_are_infinitely_far():
    water = molecule("H2O")
    assert distance(water, crystal()) == np.inf
    assert distance(water[[1, 0, 2]], water) == np.inf
    boxed = water.copy()
    boxed.center(vacuum=5.0)
    assert distance(boxed, water) == np.inf  # one has a cell
    boxed.pbc = True
    assert distance(boxed, water) == np.inf


def test_the_nearest_of_many():
    others = [crystal(), crystal(), molecule("H2O")]
    others[1].positions[0, 0] += 0.05
    moved = crystal()
    moved.positions[0, 0] += 0.08
    assert nearest(moved, others) == pytest.approx(0.03, abs=0.002)
    assert nearest(moved, []) == np.inf
