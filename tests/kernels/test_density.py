"""The compiled density descriptor against its NumPy twin, finite differences, and the symmetries of space."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from finite_differences import position_gradient, strain_gradient
from mlpot._ext.core import use_instructions
from scipy.spatial.transform import Rotation

from mlpot.descriptors import reference
from mlpot.descriptors.contractions import Contractions
from mlpot.descriptors.density import Reduction, SoapDescriptor
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.descriptors.radial_table import tabulate
from mlpot.errors import ConfigError, UnknownSpeciesError
from mlpot.neighbours import find_pairs


def random_reduction(n_channels, n_species, n_max, seed=0):
    """Random channels, each of which meets itself and the next one."""
    rng = np.random.default_rng(seed)
    a = np.repeat(np.arange(n_channels), 2)
    b = np.where(np.arange(len(a)) % 2, (a + 1) % n_channels, a)
    return Reduction(rng.normal(size=(n_channels, n_species, n_max)), a, b, rng.uniform(0.5, 1.5, len(a)))


def random_contractions(order, l_max, n_mixed, n_channels, seed=0):
    rng = np.random.default_rng(seed)
    shares = np.broadcast_to(rng.normal(size=(n_mixed, n_channels)), (l_max + 1, n_mixed, n_channels)).copy()
    return Contractions(order, shares, 0.5 ** np.arange(order - 2))


CASES = [
    ((14,), GapRadialBasis(8, 8, 5.4, 0.5, 0.5), {}),
    ((6, 14), GapRadialBasis(5, 4, 4.0, 0.7, 0.4), {"central_weight": 0.5}),
    ((6, 14), GapRadialBasis(3, 2, 3.0, 3.0, 0.5), {"constant": 0.3, "central_reference_all_species": True}),
    ((6, 8, 14), GapRadialBasis(10, 9, 4.5, 1.0, 0.5), {}),
    ((14,), GapRadialBasis(4, 13, 3.5, 0.5, 0.4), {"central_weight": 0.0}),
    ((14,), GapRadialBasis(1, 0, 3.5, 0.5, 0.5), {}),
]
HIGHER = [
    ((6, 14), GapRadialBasis(4, 4, 4.0, 0.7, 0.4), {"reduction": random_reduction(11, 2, 4), "central_weight": 0.6}),
    ((14,), GapRadialBasis(5, 4, 4.0, 0.7, 0.4), {"contractions": random_contractions(3, 3, 4, 5)}),
    ((6, 14), GapRadialBasis(3, 4, 4.0, 0.7, 0.4), {"contractions": random_contractions(4, 3, 2, 6), "constant": 0.1}),
    ((6, 8, 14), GapRadialBasis(4, 3, 4.0, 0.7, 0.4), {
        "reduction": random_reduction(9, 3, 4), "contractions": random_contractions(4, 2, 9, 9)
    }),
    # as many channels as the core takes at a time and some more
    ((6, 14), GapRadialBasis(4, 3, 3.0, 0.7, 0.4), {"reduction": random_reduction(70, 2, 4)}),
]  # fmt: skip


def descriptor_of(case):
    species, basis, options = case
    return SoapDescriptor(species, basis, **options)


def structure(species, seed=0):
    atoms = bulk("Si", cubic=True)
    rng = np.random.default_rng(seed)
    atoms.numbers = rng.choice(species, len(atoms))
    atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape)
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES + HIGHER)
def test_features_equal_their_twin(case):
    descriptor = descriptor_of(case)
    pairs = find_pairs(structure(descriptor.species), descriptor.cutoff)
    exact = reference.expansion(descriptor, pairs)
    np.testing.assert_allclose(descriptor.expand(pairs), exact, atol=2e-10 * np.abs(exact).max())
    np.testing.assert_allclose(descriptor.compute(pairs), reference.features(descriptor, pairs), atol=2e-9)
    assert descriptor.compute(pairs).shape == (8, descriptor.n_features)


def test_the_twins_pullback_and_ours():
    """Every component of the pullback, with a random cotangent."""
    descriptor = SoapDescriptor((6, 14), GapRadialBasis(3, 3, 2.6, 0.5, 0.5), constant=0.2)
    pairs = find_pairs(structure((6, 14)), descriptor.cutoff)
    cotangent = np.random.default_rng(0).normal(size=(8, descriptor.n_features))
    exact = reference.vjp(descriptor, pairs, cotangent)
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(descriptor.vjp(pairs, cotangent), exact, atol=1e-7)


@pytest.mark.parametrize("n_atoms", [1, 8, 27])
@pytest.mark.parametrize("case", [CASES[0], HIGHER[0], HIGHER[-1]])
def test_features_on_the_way_to_their_pullback(case, n_atoms):
    """The same numbers to the last bit, whether blocks of centres are full or not."""
    descriptor = descriptor_of(case)
    atoms = structure(descriptor.species) * (2, 2, 1)
    pairs = find_pairs(atoms[:n_atoms], descriptor.cutoff)
    cotangent = np.random.default_rng(3).normal(size=(n_atoms, descriptor.n_features))
    features, gradients = descriptor.compute_and_vjp(pairs, cotangent)
    np.testing.assert_array_equal(features, descriptor.compute(pairs))
    np.testing.assert_array_equal(gradients, descriptor.vjp(pairs, cotangent))
    one_by_one = descriptor.vjp(pairs, cotangent * (np.arange(n_atoms) == n_atoms - 1)[:, None])
    np.testing.assert_allclose(
        gradients[pairs.i == n_atoms - 1], one_by_one[pairs.i == n_atoms - 1], rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("case", [CASES[3], HIGHER[3], HIGHER[-1]])
def test_every_instruction_set(case, instructions):
    """They differ in how many channels and centres are treated at once."""
    descriptor = descriptor_of(case)
    pairs = find_pairs(structure(descriptor.species), descriptor.cutoff)
    cotangent = np.random.default_rng(4).normal(size=(pairs.n_atoms, descriptor.n_features))
    use_instructions(-1)
    best = descriptor.compute_and_vjp(pairs, cotangent)
    use_instructions(instructions)
    found = descriptor.compute_and_vjp(pairs, cotangent)
    for ours, theirs in zip(found, best, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("case", CASES[:4] + HIGHER)
def test_positions_and_strain(case):
    """Forces and virial of an energy that is linear in the features."""
    descriptor = descriptor_of(case)
    atoms = structure(descriptor.species, seed=1)
    cotangent = np.random.default_rng(2).normal(size=(len(atoms), descriptor.n_features))

    def energy(moved):
        return float(np.sum(cotangent * descriptor.compute(find_pairs(moved, descriptor.cutoff))))

    pairs = find_pairs(atoms, descriptor.cutoff)
    gradients = descriptor.vjp(pairs, cotangent)
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, atoms), atol=1e-6)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, atoms), atol=1e-5)


@pytest.mark.parametrize("case", CASES[:4] + HIGHER)
def test_symmetries(case):
    descriptor = descriptor_of(case)
    atoms = structure(descriptor.species, seed=3)
    features = descriptor.compute(find_pairs(atoms, descriptor.cutoff))

    def of(other):
        return descriptor.compute(find_pairs(other, descriptor.cutoff))

    turned = atoms.copy()
    matrix = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    turned.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    np.testing.assert_allclose(of(turned), features, atol=1e-12)
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array @ np.diag([1, 1, -1]), scale_atoms=True)
    np.testing.assert_allclose(of(mirrored), features, atol=1e-12)
    moved = atoms.copy()
    moved.positions += [3.3, -20.0, 7.7]
    np.testing.assert_allclose(of(moved), features, atol=1e-12)
    order = np.random.default_rng(1).permutation(len(atoms))
    np.testing.assert_allclose(of(atoms[order]), features[order], atol=1e-12)
    np.testing.assert_allclose(of(atoms * (2, 1, 3)), np.tile(features, (6, 1)), atol=1e-12)


def test_features_have_norm_one_and_isolated_atoms_have_features():
    descriptor = descriptor_of(CASES[0])
    pairs = find_pairs(structure((14,)), descriptor.cutoff)
    np.testing.assert_allclose(np.linalg.norm(descriptor.compute(pairs), axis=1), 1.0, atol=1e-14)
    alone = find_pairs(Atoms("Si"), 5.4)
    np.testing.assert_allclose(np.linalg.norm(descriptor.compute(alone)), 1.0, atol=1e-14)
    nothing = SoapDescriptor((14,), descriptor.basis, central_weight=0.0)
    np.testing.assert_array_equal(nothing.compute(alone), 0.0)
    np.testing.assert_array_equal(nothing.vjp(alone, np.ones((1, nothing.n_features))), np.empty((0, 3)))


def test_smooth_at_the_cutoff():
    """Features leave with value and slope zero: their change is of second order in the distance to the cutoff."""
    descriptor = SoapDescriptor((14,), GapRadialBasis(6, 4, 4.0, 0.8, 0.5))

    def features(distance):
        atoms = Atoms("Si3", positions=[[0, 0, 0], [2.2, 0.3, 0], [0, 0, distance]])
        return descriptor.compute(find_pairs(atoms, 4.5))[0]

    beyond = features(4.2)
    steps = np.array([0.04, 0.02, 0.01])
    changes = np.array([np.abs(features(4.0 - step) - beyond).max() for step in steps])
    np.testing.assert_allclose(changes[:-1] / changes[1:], 4.0, rtol=0.1)
    inner = [features(3.2 + step) for step in (-2e-4, -1e-4, 0.0, 1e-4, 2e-4)]
    curvatures = [np.abs(a - 2 * b + c).max() / 1e-8 for a, b, c in zip(inner, inner[1:], inner[2:], strict=False)]
    assert max(curvatures) < 10 * (min(curvatures) + 1)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7, 16])
def test_threads_change_no_bit(n_threads, monkeypatch):
    descriptor = descriptor_of(CASES[0])
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=0)
    pairs = find_pairs(atoms, descriptor.cutoff)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = descriptor.compute(pairs)
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
    np.testing.assert_array_equal(descriptor.compute(pairs), one)


@pytest.mark.parametrize("case", CASES + HIGHER)
def test_tables_reach_their_accuracy(case):
    """Everywhere, not only where `tabulate` looked; and derivatives of the basis are derivatives."""
    basis = case[1]
    radii = np.random.default_rng(0).uniform(0.05, basis.cutoff, 2000)
    exact = basis.evaluate(radii)
    error = np.abs(tabulate(basis).evaluate(radii) - np.moveaxis(exact[0], 1, 2)).max()
    assert error < 2e-10 * np.abs(exact[0]).max()
    smooth = radii[np.abs(radii - basis.cutoff + basis.cutoff_width) > 1e-3]
    smooth = smooth[smooth < basis.cutoff - 1e-3]
    step = 1e-4
    numerical = (basis.evaluate(smooth + step) - basis.evaluate(smooth - step)) / (2 * step)
    values = basis.evaluate(smooth)
    np.testing.assert_allclose(numerical[:2], values[1:], atol=1e-6 * np.abs(values).max())


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="l_max"):
        SoapDescriptor((14,), GapRadialBasis(4, 21, 4.0, 0.5, 0.5))
    with pytest.raises(ConfigError, match="sorted"):
        SoapDescriptor((14, 6), GapRadialBasis(4, 4, 4.0, 0.5, 0.5))
    with pytest.raises(ConfigError, match="linearly dependent"):
        SoapDescriptor((14,), GapRadialBasis(60, 2, 3.0, 0.5, 1.5)).compute(find_pairs(structure((14,)), 3.0))
    with pytest.raises(UnknownSpeciesError, match="Ge"):
        SoapDescriptor((14,), GapRadialBasis(4, 4, 4.0, 0.5, 0.5)).compute(find_pairs(Atoms("Ge"), 4.0))
