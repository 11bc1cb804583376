"""The three-body term: summed in the core or read from a table, against its formula in NumPy and finite differences."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from compiled_terms import predicted, with_instances
from finite_differences import position_gradient, strain_gradient

from mlpot.errors import UnknownSpeciesError
from mlpot.neighbours import find_pairs
from mlpot.terms.core_terms import alone
from mlpot.terms.three_body import ThreeBodyTerm

CUTOFF, WIDTH = 3.6, 0.8
REGULARISATION = 0.02
LONG = (2.0, 3.0, 1.6)
"""Length scales (A, A^2, A) of triplet energies smooth enough for a table."""


def make_term(species=(14,), centre=14, neighbours=(14, 14), n_sparse=30, scales=(1.0, 1.5, 0.8), seed=0):
    rng = np.random.default_rng(seed)
    r, s = rng.uniform(1.8, CUTOFF - 0.1, (2, n_sparse))
    apart = np.sqrt(r**2 + s**2 - 2 * r * s * rng.uniform(-1, 0.9, n_sparse))
    points = np.stack([r + s, (r - s) ** 2, apart], axis=1)
    cutoffs = rng.uniform(0.2, 1.0, n_sparse)
    return ThreeBodyTerm(species, centre, neighbours, CUTOFF, WIDTH, np.array(scales), 0.4, points, cutoffs)


TERMS = {
    "one element": make_term(),
    "like neighbours": make_term((6, 14), 6, (14, 14)),
    "unlike neighbours": make_term((6, 8, 14), 14, (14, 6)),
    "table": make_term(n_sparse=200, scales=LONG),
    "table of unlike neighbours": make_term((6, 14), 14, (6, 14), n_sparse=170, scales=LONG),
}


def structure(species, seed=1):
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.numbers = rng.choice(species, len(atoms))
    atoms.positions += 0.2 * rng.normal(size=atoms.positions.shape)
    return atoms


def weights_of(term, size=3.0):
    return size * np.random.default_rng(2).normal(size=term.n_sparse)


def directly(term, weights, pairs):
    energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
    term.predict(pairs, weights, energies, gradients)
    return energies, gradients


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", TERMS)
def test_compiled_equals_the_formula(name):
    term = TERMS[name]
    weights = weights_of(term)
    compiled = term.compile(weights, 1e-8, REGULARISATION)
    assert (compiled.table is not None) == ("table" in name)
    for atoms in (structure(term.species), Atoms("Si4", positions=3 * np.random.default_rng(3).random((4, 3)))):
        if not set(atoms.numbers) <= set(term.species):
            continue
        pairs = find_pairs(atoms, CUTOFF + 0.7)
        energies, gradients = directly(term, weights, pairs)
        found = with_instances(compiled, pairs)
        np.testing.assert_allclose(found[0], energies, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found[1], gradients, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[2], term.instance_variances(pairs, REGULARISATION), rtol=1e-9)


@pytest.mark.parametrize("name", TERMS)
def test_derivatives(name):
    term = TERMS[name]
    compiled = term.compile(weights_of(term), 1e-8)
    atoms = structure(term.species, seed=4)

    def energy(moved):
        return float(predicted(compiled, find_pairs(moved, CUTOFF))[0].sum())

    pairs = find_pairs(atoms, CUTOFF)
    gradients = predicted(compiled, pairs)[1]
    np.testing.assert_allclose(pairs.forces(gradients), -position_gradient(energy, atoms), atol=2e-6)
    np.testing.assert_allclose(pairs.virial(gradients), -strain_gradient(energy, atoms), atol=2e-5)


def test_close_neighbours_are_summed():
    """Nearer than any sparse triplet the table does not reach."""
    term = TERMS["table"]
    compiled = term.compile(weights_of(term), 1e-8)
    pairs = find_pairs(Atoms("Si3", positions=[[0, 0, 0], [0, 0, 0.7], [0, 1.1, 0.1]]), CUTOFF)
    assert pairs.distances.min() < compiled.table.nearest
    np.testing.assert_allclose(
        predicted(compiled, pairs)[0], directly(term, weights_of(term), pairs)[0], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("positions", [[[0, 0, 0]], [[0, 0, 0], [0, 0, 2.0]]])
def test_without_triplets(positions):
    compiled = make_term().compile(np.ones(30), 1e-8, REGULARISATION)
    pairs = find_pairs(Atoms(f"Si{len(positions)}", positions=positions), CUTOFF)
    energies, gradients, variances = with_instances(compiled, pairs)
    assert not energies.any() and not gradients.any() and not variances.any()


def test_a_triplet_vanishes_smoothly():
    """Energy and its slope as the second neighbour leaves."""
    compiled = make_term().compile(np.full(30, 5.0), 1e-8)

    def energy(distance):
        atoms = Atoms("Si3", positions=[[0, 0, 0], [0, 0, 2.2], [distance, 0, 0]])
        return float(predicted(compiled, find_pairs(atoms, CUTOFF))[0][0])

    assert energy(CUTOFF + 1e-6) == 0.0
    assert 0 < abs(energy(CUTOFF - 1e-4)) < 1e-6
    assert abs(energy(3.0)) > 1e-2


@pytest.mark.parametrize("threads", [2, 5, 16])
def test_threads_change_no_bit(monkeypatch, threads):
    term = TERMS["table"]
    compiled = term.compile(weights_of(term), 1e-8, REGULARISATION)
    pairs = find_pairs(structure((14,)).repeat((3, 2, 2)), CUTOFF)
    results = []
    for n in (1, threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n))
        results.append(with_instances(compiled, pairs))
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.usefixtures("instructions")
def test_the_exponential_to_the_last_digits():
    """One sparse point, no cutoff, and coordinates whose squares are exact: a triplet's energy is exp(x) alone."""
    distances = np.arange(1, 2600) / 64
    tables = {
        "type": np.array([2]), "species": np.array([1, 2]), "sizes": np.array([0, 1, 1, 1, 0, 0, 0, 0]),
        "reals": np.array([100.0, 1e-3, 1.0, 1e200, 1e200, *np.zeros(3), *np.ones(3), 0.0, 0.0]),
        "points": np.array([1.0, 0.0, 0.0]), "strengths": np.ones(1),
    }  # fmt: skip
    core, energies = alone(tables), np.zeros(3)
    for r in distances:
        vectors = np.array([[1.0, 0, 0], [0, r, 0]])
        core.predict(
            np.array([1, 2, 2], np.int32), np.array([0, 2, 2, 2]), np.array([1, 2], np.int32), vectors, energies, np.zeros((2, 3)), 1
        )
        assert energies[0] == pytest.approx(math.exp(-0.5 * r**2), rel=1e-15, abs=1e-307)


def test_an_unknown_element_is_an_error():
    with pytest.raises(UnknownSpeciesError):
        predicted(make_term().compile(np.ones(30), 1e-8), find_pairs(Atoms("Ge"), CUTOFF))
    with pytest.raises(UnknownSpeciesError):
        directly(make_term(), np.ones(30), find_pairs(Atoms("Ge"), CUTOFF))
