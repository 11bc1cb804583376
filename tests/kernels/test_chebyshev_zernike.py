"""Chebyshev and Zernike descriptors against their NumPy twins, published numbers, and finite differences."""

import pickle

import numpy as np
import pytest
import twins_acsf as twins
from ase import Atoms
from ase.build import bulk, molecule
from finite_differences import position_gradient, strain_gradient
from scipy.spatial.transform import Rotation

from mlpot.descriptors.chebyshev import Chebyshev, spins
from mlpot.descriptors.zernike import Zernike
from mlpot.errors import ConfigError
from mlpot.neighbours import find_pairs

CUTOFF = 4.0
FIVE = (3, 8, 22, 28, 42)
CHEBYSHEV = {
    "one element": Chebyshev((14,), CUTOFF),
    "two elements": Chebyshev((6, 14), CUTOFF, 10, 3, 2.5),
    "five elements": Chebyshev(FIVE, CUTOFF, 8, 6),
    "given weights": Chebyshev(FIVE, CUTOFF, 5, 4, 3.0, [[1, 2, 3, 4, 5], [0.5, -1, 0, 2, 1]]),
    "periodic": Chebyshev(FIVE, CUTOFF, 5, 4, 3.0, "periodic", 3),
    "random": Chebyshev(FIVE, CUTOFF, 5, 4, 3.0, "random", 2, seed=3),
}
ZERNIKE = {
    "one element": Zernike((14,), CUTOFF),
    "five elements": Zernike(FIVE, CUTOFF, 7),
    "another cutoff function": Zernike((6, 14), CUTOFF, 4, "polynomial"),
}
ALL = [*CHEBYSHEV.values(), *ZERNIKE.values()]


def structure(species, seed=0):
    """A triclinic cell that is smaller than the cutoff in every direction."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True)[:6]
    atoms.set_cell(atoms.cell.array * 0.72 @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0.1, 0, 0.9]]), scale_atoms=True)
    atoms.numbers = rng.permutation(np.resize(species, len(atoms)))
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", CHEBYSHEV)
def test_chebyshev_equals_its_twin(name):
    descriptor = CHEBYSHEV[name]
    pairs = find_pairs(structure(descriptor.species), CUTOFF + 0.5)
    weights = [dict(zip(descriptor.species, column, strict=True)) for column in descriptor.weights.T]
    orders = descriptor.radial_order, descriptor.angular_order, descriptor.cutoff, descriptor.reach
    exact = twins.chebyshev(weights, pairs, *orders).reshape(pairs.n_atoms, -1)
    np.testing.assert_allclose(descriptor.compute(pairs), exact, rtol=0, atol=1e-12 * np.abs(exact).max())


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", ZERNIKE)
def test_zernike_equals_its_twin(name):
    descriptor = ZERNIKE[name]
    pairs = find_pairs(structure(descriptor.species), CUTOFF + 0.5)
    exact = twins.zernike(pairs, descriptor.n_max, CUTOFF, descriptor.cutoff_function)
    np.testing.assert_allclose(descriptor.compute(pairs), exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())


def test_amp_in_numbers():
    """Oxygen of water with AMP's cosine cutoff."""
    found = Zernike((1, 8), 6.5, 4).compute(find_pairs(molecule("H2O"), 6.5))[0]
    numbers = [0.85495604367, 0.035977402591, 4.1624562314, 0.0014452494673, 0.37997338102, 0.00013045322252]
    np.testing.assert_allclose(found, [*numbers, 8.8962629384, 0.026255256603, 4.0135474167e-06], rtol=1e-10)


AENET = [
    [
        1.5524292875264831,
        -0.61883393129021091,
        -1.0004997755283567,
        1.3268007491966016,
        -0.12552332652230608,
        -0.98685814405453187,
    ],
    [
        -0.17766896635574581,
        0.28263629474790708,
        -0.20982628160953970,
        -0.39863263810815253,
        0.88188236052684199,
        -0.31124517056553586,
    ],
]
"""A hydrogen atom of water, first numbers with w = 1 and with the spins of the order O, H."""


def test_aenet_in_numbers():
    """Fortran aenet's water (10 radial functions of 4 A, 3 angular ones of 1.5 A), rebuilt from two of the oxygen's numbers."""
    c_0, a_0, a_1, a_2, a_3 = (
        1.7300982538822289,
        0.083581702999385277,
        -0.020389954834743824,
        -0.073633347241045422,
        0.056316014503256850,
    )
    r = 4 / np.pi * np.arccos(c_0 - 1)
    half = 0.5 * np.arccos(a_1 / a_0)
    atoms = Atoms(
        "OH2", positions=[[0, 0, 0], [r * np.sin(half), 0, r * np.cos(half)], [-r * np.sin(half), 0, r * np.cos(half)]]
    )
    found = Chebyshev((1, 8), 4.0, 10, 3, 1.5, [1.0, -1.0]).compute(find_pairs(atoms, 4.0))
    np.testing.assert_allclose(found[0, [0, 11, 12, 13, 14]], [c_0, a_0, a_1, a_2, a_3], atol=1e-12)
    np.testing.assert_allclose(found[0, 15:], found[0, :15], atol=1e-13)
    np.testing.assert_allclose(found[1:, [range(6), range(15, 21)]], np.array([AENET, AENET]), atol=1e-12)
    assert np.abs(found[1:, 11:15]).max() < 1e-13


def test_aenets_weights():
    assert spins(2).tolist() == [-1, 1] and spins(3).tolist() == [-1, 0, 1] and spins(4).tolist() == [-2, -1, 1, 2]
    assert spins(5).tolist() == [-2, -1, 0, 1, 2]


def test_weights_belong_to_elements():
    """Weights that are exchanged together with the elements change nothing, and others do."""
    atoms = structure(FIVE)
    weights = [3.0, -1.0, 0.5, 2.0, -2.5]
    features = Chebyshev(FIVE, CUTOFF, 6, 4, None, weights).compute(find_pairs(atoms, CUTOFF))
    other = atoms.copy()
    other.numbers = [FIVE[(FIVE.index(z) + 2) % 5] for z in atoms.numbers]
    moved = Chebyshev(FIVE, CUTOFF, 6, 4, None, np.roll(weights, 2)).compute(find_pairs(other, CUTOFF))
    np.testing.assert_allclose(moved, features, atol=1e-11)
    assert (
        np.abs(Chebyshev(FIVE, CUTOFF, 6, 4, None, weights).compute(find_pairs(other, CUTOFF)) - features).max() > 0.1
    )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("descriptor", ALL)
def test_pullback(descriptor):
    pairs = find_pairs(structure(descriptor.species), CUTOFF)
    cotangent = np.random.default_rng(1).normal(size=(pairs.n_atoms, descriptor.n_features))
    cotangent /= np.abs(descriptor.compute(pairs)).max()
    chosen = np.arange(0, pairs.n_pairs, pairs.n_pairs // 10)
    exact = twins.pullback(descriptor, pairs, cotangent, chosen)
    assert np.abs(exact).max() > 1e-2
    np.testing.assert_allclose(descriptor.vjp(pairs, cotangent)[chosen], exact, atol=1e-7)


@pytest.mark.parametrize("descriptor", [CHEBYSHEV["five elements"], ZERNIKE["five elements"]])
def test_positions_and_strain(descriptor):
    """Forces and virial of an energy that is linear in the features."""
    atoms = structure(descriptor.species, seed=3)
    scale = np.abs(descriptor.compute(find_pairs(atoms, CUTOFF))).max()
    weights = np.random.default_rng(4).normal(size=descriptor.n_features) / scale

    def energy(moved):
        return float((descriptor.compute(find_pairs(moved, CUTOFF)) @ weights).sum())

    pairs = find_pairs(atoms, CUTOFF)
    gradients = descriptor.vjp(pairs, np.tile(weights, (pairs.n_atoms, 1)))
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, atoms), atol=1e-6)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, atoms, step=1e-4), atol=1e-6)


@pytest.mark.parametrize("descriptor", ALL)
def test_symmetries_of_space(descriptor):
    atoms = structure(descriptor.species, seed=5)
    features = descriptor.compute(find_pairs(atoms, CUTOFF))
    turned = atoms.copy()
    rotation = -Rotation.random(random_state=0).as_matrix()
    turned.set_cell(atoms.cell.array @ rotation)
    turned.positions = atoms.positions @ rotation + 0.3
    order = np.random.default_rng(0).permutation(len(atoms))
    tolerance = {"rtol": 0, "atol": 1e-11 * np.abs(features).max()}
    np.testing.assert_allclose(descriptor.compute(find_pairs(turned, CUTOFF)), features, **tolerance)
    np.testing.assert_allclose(descriptor.compute(find_pairs(atoms[order], CUTOFF)), features[order], **tolerance)
    again = pickle.loads(pickle.dumps(descriptor))
    assert again == descriptor
    np.testing.assert_array_equal(again.compute(find_pairs(atoms, CUTOFF)), features)


@pytest.mark.parametrize("descriptor", ALL)
def test_few_neighbours(descriptor):
    """No features of an isolated atom; those of a pair vanish smoothly, its straight line is no place without derivatives."""
    z = descriptor.species[-1]
    lonely = find_pairs(Atoms([z, z], positions=[[0, 0, 0], [0, 0, 9.0]]), CUTOFF)
    assert not descriptor.compute(lonely).any()
    leaving = find_pairs(Atoms([z, z], positions=[[0, 0, 0], [0, 0, CUTOFF - 1e-5]]), CUTOFF)
    scale = np.abs(descriptor.compute(find_pairs(structure(descriptor.species), CUTOFF))).max()
    assert np.abs(descriptor.compute(leaving)).max() < 1e-8 * scale
    assert np.abs(descriptor.vjp(leaving, np.ones((2, descriptor.n_features)))).max() < 1e-3 * scale
    line = find_pairs(Atoms([z] * 3, positions=[[0, 0, 0], [0, 0, 1.4], [0, 0, -1.9]]), CUTOFF)
    gradients = descriptor.vjp(line, np.ones((3, descriptor.n_features)) / scale)
    assert np.isfinite(gradients).all() and np.abs(gradients[:, :2]).max() < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radial_order": -1}, "radial_order = -1"),
        ({"angular_order": 21}, "angular_order = 21"),
        ({"angular_cutoff": 5.0}, "angular_cutoff = 5.0"),
        ({"cutoff": 0.0}, "cutoff = 0.0"),
        ({"species_weights": "spins"}, "must be one of spin"),
        ({"species_weights": [1.0, 2.0, 3.0]}, "one for each of 2 elements"),
        ({"species_weights": [1.0, float("nan")]}, "finite"),
        ({"n_weights": 2}, "n_weights = 2"),
        ({"species": (14, 6)}, "sorted atomic numbers"),
    ],
)
def test_chebyshev_that_cannot_be(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Chebyshev(**({"species": (6, 14), "cutoff": CUTOFF} | arguments))


def test_zernike_that_cannot_be():
    with pytest.raises(ConfigError, match="n_max = 21"):
        Zernike((14,), CUTOFF, 21)
    with pytest.raises(ConfigError, match="cutoff_function"):
        Zernike((14,), CUTOFF, 4, "soft")
