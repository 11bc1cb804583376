"""The compiled two-body term against the direct one, finite differences, and itself on any number of threads."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from compiled_terms import observed_pairs, predicted
from finite_differences import position_gradient, strain_gradient

from mlpot.errors import ConfigError, UnknownSpeciesError
from mlpot.neighbours import find_pairs
from mlpot.terms import pair_compiled
from mlpot.terms.core_terms import Sums, alone, evaluate, observing_alone
from mlpot.terms.pair import PairTerm
from mlpot.terms.pair_compiled import covariance_tables
from mlpot.terms.pair_curves import SPECTRA, KernelFeatures
from mlpot.terms.pair_ensemble import PairObserver, pair_members

CUTOFF = 4.5
REACH = 5.2
"""Pairs are looked for farther than the term reaches."""


def radii(n, start=1.6):
    return np.linspace(start, CUTOFF - 0.1, n)


TERMS = {
    "one element": PairTerm((14,), CUTOFF, 1.0, 0.5, 2.0, (radii(20),)),
    "bent": PairTerm((14,), CUTOFF, 1.0, 0.25, 2.0, (radii(24),), (2.22,), 0.33),
    "bent, two elements": PairTerm((6, 14), CUTOFF, 0.8, 0.4, (1.0, 0.3, 2.0), (radii(9, 1.0), radii(3), radii(20)),
                                   (1.5, 1.9, 2.2)),
    "matern": PairTerm((14,), CUTOFF, 1.0, 1.0, 2.0, (radii(20),), (2.22,), 0.33, "matern"),
    "matern, not bent, two elements": PairTerm((6, 14), CUTOFF, 1.0, 0.8, (1.0, 0.3, 2.0), (radii(9, 1.0), radii(3), radii(20)),
                                               kernel="matern"),
    "wide step": PairTerm((14,), CUTOFF, CUTOFF + 0.5, 1.0, 0.3, (radii(5),)),
    "short": PairTerm((14,), CUTOFF, 0.5, 0.2, 1.0, (radii(12),)),
    "two elements": PairTerm((6, 14), CUTOFF, 1.0, 0.5, (1.0, 0.3, 2.0), (radii(9, 1.0), radii(3), radii(20))),
    "some pairs without": PairTerm((6, 8, 14), CUTOFF, 0.7, 0.4, 1.0, (radii(7), radii(0), radii(8), *[radii(1)] * 2, radii(0))),
}  # fmt: skip


def weights_of(term, scale=1.0):
    return scale * np.random.default_rng(4).normal(size=term.n_sparse)


def structures(species):
    """Crystal, primitive and one-atom cells, a molecule, atoms without neighbours, dimers at both ends of the range."""
    rng = np.random.default_rng(5)
    crystal = bulk("Si", cubic=True) * (2, 2, 1)
    crystal.rattle(0.15, seed=1)
    molecule = Atoms("Si7", positions=rng.uniform(0, 6, (7, 3)))
    found = [crystal, bulk("Si"), Atoms("Si", cell=[2.3, 2.5, 2.7], pbc=[True, False, True]), molecule]
    found += [Atoms("Si"), Atoms("Si3", positions=[[0, 0, 0], [9, 0, 0], [9, 2, 0]])]
    found += [Atoms("Si2", positions=[[0, 0, 0], [0, d, 0]]) for d in (0.1, 0.3, 3.5, CUTOFF - 1e-7, CUTOFF, 4.8)]
    for atoms in found:
        atoms.numbers = rng.choice(species, len(atoms))
    return found


def direct(term, weights, pairs, regularisation=None):
    energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
    term.predict(pairs, weights, energies, gradients)
    variances = term.variances(pairs) if regularisation is None else term.instance_variances(pairs, regularisation)
    return energies, gradients, term.covariances(pairs), variances


def compiled_values(compiled, pairs):
    return observed_pairs(compiled, pairs)[:4]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("regularisation", [None, 0.01])
def test_compiled_equals_direct(name, regularisation):
    term = TERMS[name]
    weights = weights_of(term)
    compiled = term.compile(weights, regularisation=regularisation)
    for atoms in structures(term.species):
        pairs = find_pairs(atoms, REACH)
        exact = direct(term, weights, pairs, regularisation)
        found = compiled_values(compiled, pairs)
        np.testing.assert_allclose(found[0], exact[0], rtol=0, atol=1e-8)
        np.testing.assert_allclose(found[1], exact[1], rtol=0, atol=1e-6)
        omitted = 1e-9 if term.kernel == "gaussian" else 3 * SPECTRA[term.kernel].omitted
        prior = 1.0 if term.kernel == "gaussian" else max(exact[3].max() / max(term.energy_scales) ** 2, 1.0)  # with its growth
        np.testing.assert_allclose(found[2], exact[2], rtol=0, atol=omitted * prior * max(term.energy_scales) ** 2)
        np.testing.assert_allclose(found[3], exact[3], rtol=1e-8, atol=10 * omitted * prior * max(term.energy_scales) ** 2)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", TERMS)
def test_tabulated_covariances_equal_the_formulas(name):
    """Without prior variances the core needs no features; where a table would be too large, it has none and uses them."""
    term = TERMS[name]
    if name == "some pairs without":
        term = replace(term, energy_scales=tuple(np.linspace(0.2, 3.0, 6)))
    observer = PairObserver(term.compile(weights_of(term)), pair_members(term, np.zeros((term.n_sparse, 8))), covariance_tables(term))
    core = observing_alone(observer.core_tables(), term.n_sparse, False)
    for atoms in structures(term.species):
        pairs = find_pairs(atoms, REACH)
        covariances = np.full((pairs.n_atoms, term.n_sparse), np.nan)
        evaluate(core, pairs, Sums(covariances=covariances))
        error = 10 * pair_compiled.FEATURE_TOLERANCE[term.kernel]
        np.testing.assert_allclose(covariances, term.covariances(pairs), rtol=0, atol=error * max(term.energy_scales) ** 2)


def test_a_table_that_would_be_too_large(monkeypatch):
    monkeypatch.setattr(pair_compiled, "MOST_COVARIANCES", 100)
    assert covariance_tables(TERMS["two elements"]) == {}


def test_sums_are_added_and_covariances_written():
    """Also into columns of a larger array; without covariances or variances the rest is the same."""
    term = TERMS["two elements"]
    compiled = term.compile(weights_of(term))
    pairs = find_pairs(structures(term.species)[0], REACH)
    along = pair_members(term, np.random.default_rng(5).normal(size=(term.n_sparse, 8)))
    energies, gradients, covariances, variances, members = observed_pairs(compiled, pairs, along)
    core = alone(PairObserver(compiled, along).core_tables(), {
        "kind": np.array([3]), "sizes": np.array([term.n_sparse + 11, 1, 1, 1]), "terms": np.array([0]), "starts": np.array([4]),
    })  # fmt: skip
    wide, more_variances = np.full((pairs.n_atoms, term.n_sparse + 11), 7.0), np.ones(pairs.n_atoms)
    more_members = np.ones((pairs.n_pairs, 3, 8), np.float32)
    found = evaluate(core, pairs, Sums(covariances=wide, variances=more_variances, members=more_members))
    np.testing.assert_array_equal(found[0], energies)
    np.testing.assert_array_equal(found[1], gradients)
    np.testing.assert_array_equal(wide[:, 4 : 4 + term.n_sparse], covariances)
    assert np.all(wide[:, :4] == 7.0) and np.all(wide[:, 4 + term.n_sparse :] == 7.0)
    np.testing.assert_allclose(more_variances - 1, variances, rtol=1e-12)
    np.testing.assert_allclose(more_members - 1, members, atol=1e-5)
    assert np.abs(members).max() > 0.1
    for plain in (predicted(compiled, pairs), evaluate(core, pairs)):
        np.testing.assert_array_equal(plain[0], energies)
        np.testing.assert_array_equal(plain[1], gradients)
    some = np.zeros(pairs.n_atoms)
    evaluate(core, pairs, Sums(variances=some))
    np.testing.assert_array_equal(some, variances)


@pytest.mark.parametrize("name", ["one element", "two elements"])
def test_forces_and_virial_are_derivatives(name):
    term = TERMS[name]
    compiled = term.compile(weights_of(term))
    atoms = bulk("Si", cubic=True)
    atoms.numbers = np.resize(term.species, len(atoms))
    atoms.rattle(0.2, seed=14)
    pairs = find_pairs(atoms, REACH)
    for kink in (CUTOFF - 1.0, CUTOFF):  # a stencil across a jump of the curvature is of first order only
        assert np.abs(pairs.distances - kink).min() > 0.03

    def energy(moved):
        return float(compiled_values(compiled, find_pairs(moved, REACH))[0].sum())

    gradients = compiled_values(compiled, pairs)[1]
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, atoms, 2e-4), atol=1e-6)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, atoms, 2e-4), atol=1e-5)


def test_weights_that_cancel():
    """A smooth potential interpolated by weights of 1e5: the table is of their sum."""
    term = PairTerm((14,), CUTOFF, 1.0, 0.7, 1.0, (radii(25),))
    covariance = term.covariance(term.sparse_radii[0], term.sparse_radii[0], 1.0)[0]
    weights = np.linalg.solve(covariance + 1e-9 * np.eye(25), np.exp(-term.sparse_radii[0]))
    assert np.abs(weights).max() > 1e4
    compiled = term.compile(weights)
    pairs = find_pairs(structures((14,))[0], REACH)
    exact, found = direct(term, weights, pairs), compiled_values(compiled, pairs)
    np.testing.assert_allclose(found[0], exact[0], rtol=0, atol=2e-8)
    np.testing.assert_allclose(found[1], exact[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e5, 1e12])
def test_weights_of_any_size_compile(scale):
    term = TERMS["one element"]
    weights = weights_of(term, scale)
    pairs = find_pairs(structures((14,))[0], REACH)
    exact, found = direct(term, weights, pairs), compiled_values(term.compile(weights), pairs)
    np.testing.assert_allclose(found[0], exact[0], rtol=0, atol=max(1e-8, 1e-10 * scale))


def test_a_smaller_tolerance_is_met():
    term = TERMS["one element"]
    weights = weights_of(term)
    pairs = find_pairs(structures((14,))[0], REACH)
    exact = direct(term, weights, pairs)[0]
    errors = [np.abs(compiled_values(term.compile(weights, t), pairs)[0] - exact).max() for t in (1e-4, 1e-8, 1e-11)]
    assert errors[0] < 1e-4 and errors[1] < 1e-8 and errors[2] < 1e-11
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("n_threads", [2, 3, 4])
@pytest.mark.parametrize("regularisation", [None, 0.001])
def test_threads_change_no_bit(n_threads, regularisation, monkeypatch):
    term = TERMS["two elements"]
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.numbers = np.random.default_rng(0).choice(term.species, len(atoms))
    atoms.rattle(0.1, seed=0)
    pairs = find_pairs(atoms, REACH)
    compiled = term.compile(weights_of(term), regularisation=regularisation)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = compiled_values(compiled, pairs)
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
    for found, exact in zip(compiled_values(compiled, pairs), one, strict=True):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(("cutoff", "length_scale"), [(5.4, 0.5), (8.0, 2.0), (4.0, 0.1), (3.0, 9.0)])
def test_features_are_the_kernel(cutoff, length_scale):
    features = KernelFeatures(cutoff, 1.0, length_scale)
    distances = np.random.default_rng(0).uniform(0.1, cutoff, 300)
    phi = features.evaluate(distances)[0, :, :, 0]
    exact = PairTerm((14,), cutoff, 1.0, length_scale, 1.0, ()).covariance(distances, distances, 1.0)[0]
    np.testing.assert_allclose(phi @ phi.T, exact, rtol=0, atol=1e-11)
    assert features.n_max < 8 + 3.2 * cutoff / length_scale


@pytest.mark.parametrize(("cutoff", "length_scale"), [(5.4, 1.0), (8.0, 3.0), (3.0, 0.5)])
def test_features_of_a_rough_kernel(cutoff, length_scale):
    """Its spectrum has an algebraic tail: as many functions as the error of the kernel that is allowed needs."""
    features = KernelFeatures(cutoff, 1.0, length_scale, "matern")
    distances = np.random.default_rng(0).uniform(0.1, cutoff, 300)
    phi = features.evaluate(distances)[0, :, :, 0]
    exact = PairTerm((14,), cutoff, 1.0, length_scale, 1.0, (), kernel="matern").covariance(distances, distances, 1.0)[0]
    np.testing.assert_allclose(phi @ phi.T, exact, rtol=0, atol=3 * SPECTRA["matern"].omitted)
    assert features.n_max < 20 + 18 * cutoff / length_scale


def test_variance_at_the_sparse_radii_and_far_from_them():
    """A dimer at a sparse radius is as certain as the regularisation lets it be; far away it has its prior."""
    term = PairTerm((14,), CUTOFF, 1.0, 0.3, 2.0, (np.array([2.0, 2.5]),))
    compiled = term.compile(weights_of(term), regularisation=0.01)

    def variance(distance):
        atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, distance]])
        return compiled_values(compiled, find_pairs(atoms, CUTOFF))[3]

    np.testing.assert_allclose(variance(2.0), 2e-4, rtol=1e-4)
    np.testing.assert_allclose(variance(0.3), 1 + 1e-4, rtol=1e-5)


def test_compiled_terms_travel_and_refuse():
    term = TERMS["two elements"]
    compiled = term.compile(weights_of(term))
    pairs = find_pairs(structures(term.species)[0], REACH)
    before = compiled_values(compiled, pairs)
    after = compiled_values(pickle.loads(pickle.dumps(compiled)), pairs)
    for found, exact in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, exact)
    with pytest.raises(UnknownSpeciesError, match="Ge"):
        compiled_values(compiled, find_pairs(Atoms("Ge2", positions=[[0, 0, 0], [0, 0, 2.4]]), REACH))
    with pytest.raises(ConfigError, match="length_scale"):
        PairTerm((14,), 6.0, 1e-3, 1.0, 1.0, (radii(4),)).compile(np.ones(4))
