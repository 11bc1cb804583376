"""Atoms next to uncertain ones of another element are uncertain."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii

from mlpot.neighbours import find_pairs
from mlpot.uncertainty.calibration import UNCALIBRATED
from mlpot.uncertainty.reaction import DECAY, Reactions
from mlpot.uncertainty.variances import Variances


def shared(atoms, forces_std, cutoff=5.0):
    return Reactions.of(find_pairs(atoms, cutoff)).added_to(np.array(forces_std, float))


def test_the_formula_in_plain_numpy():
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH", vacuum=4.0)
    atoms.rattle(0.05, seed=1)
    own = rng.uniform(0.01, 0.3, (len(atoms), 3))
    distances, radii = atoms.get_all_distances(), covalent_radii[atoms.numbers]
    variances = np.mean(own**2, axis=1)
    expected = own.copy()
    weights = np.exp(-2 * np.maximum(distances - radii[:, None] - radii[None], 0) / DECAY)
    np.fill_diagonal(weights, 0.0)
    for i in range(len(atoms)):
        reaction = max(
            1.5 * weights[i, j] / max(1.0, weights[:, j].sum()) * variances[j]
            for j in range(len(atoms)) if atoms.numbers[j] != atoms.numbers[i]
        )  # fmt: skip
        expected[i] *= max(1.0, np.sqrt(reaction / variances[i]))
    np.testing.assert_allclose(shared(atoms, own), expected, rtol=2e-4)  # what is farther than the reach is left out


@pytest.mark.parametrize("of_oxygen", [0.01, 1e-4])
def test_two_atoms_have_forces_of_one_size(of_oxygen):
    """Of a molecule of two atoms the forces are opposite, and so are their errors, however certain one of them seems."""
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
    found = shared(atoms, [[0.0, 0.0, 0.3], [0.0, 0.0, of_oxygen]])
    np.testing.assert_allclose(found, [[0, 0, 0.3], [0, 0, 0.3 * np.sqrt(1.5)]])


def test_the_metal_under_a_molecule_shares_its_uncertainty_and_the_rest_does_not():
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0)
    slab.append("C")
    slab.positions[-1] = slab.positions[-3] + [0, 0, 1.9]
    own = np.full((len(slab), 3), 0.005)
    own[-1] = 0.3
    found = shared(slab, own)
    below = len(slab) - 3
    assert found[below, 0] > 0.1
    far = slab.get_all_distances(mic=True)[-1] > 5.0
    assert far.sum() > 5 and np.all(found[far] == own[far]) and np.all(found[-1] == own[-1])
    assert np.sum(found[:-1] ** 2) < 3 * np.sum(own**2)  # it is shared, not multiplied


def test_one_element_and_symmetric_forces_are_left_alone():
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    assert np.all(shared(crystal, np.zeros((8, 3))) == 0.0)
    own = np.zeros((8, 3))
    own[0] = 0.1
    assert np.all(shared(crystal, own)[1:] == 0.0)
    metal = bulk("Cu", cubic=True)
    assert np.all(shared(metal, np.diag([1.0, 2.0, 3.0])[[0, 1, 2, 0]]) == np.diag([1.0, 2.0, 3.0])[[0, 1, 2, 0]])


def test_directions_without_uncertainty_stay_without():
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
    found = shared(atoms, [[0.0, 0.0, 0.3], [0.0, 0.0, 0.01]])
    assert np.all(found[:, :2] == 0.0) and found[1, 2] == pytest.approx(0.3 * np.sqrt(1.5))


def test_atoms_far_away_change_no_share():
    """Not even large ones: what two atoms share depends on what is near them, so that parts of a system can be computed apart."""
    positions = [[0, 0, 0], [0, 0, 5.2], [0, 0, 40.0]]
    own = [[0.0, 0.0, 1e-4], [0.0, 0.0, 1.0], [0.0, 0.0, 0.1]]
    near = shared(Atoms("CO", positions[:2]), own[:2], cutoff=6.0)
    np.testing.assert_array_equal(shared(Atoms("COCs", positions), own, cutoff=6.0)[:2], near)


@pytest.mark.parametrize(("of_carbon", "expected"), [(0.3, [False, False]), (0.2, [True, False]), (0.01, [True, False])])
def test_of_two_neighbours_one_at_least_has_errors_of_its_own(of_carbon, expected):
    """Errors of both are attributed to them if they are about equally uncertain, or nothing would ever be learned from a molecule."""
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
    forces = np.array([[0.0, 0.0, of_carbon**2], [0.0, 0.0, 0.3**2]])
    own = Variances(np.zeros(2), np.zeros(2), 0.0, forces, None, None)
    found = own.calibrated(UNCALIBRATED, find_pairs(atoms, 4.0), np.zeros(2))
    assert np.all(found.forces_std[:, 2] > 0.5) and found.borrowed.tolist() == expected
