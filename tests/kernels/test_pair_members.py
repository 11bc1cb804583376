"""Tables of an ensemble of pair potentials in the core against the formulas, with every instruction set."""

from dataclasses import replace

import numpy as np
import pytest
from compiled_terms import observed_pairs
from mlpot._ext.core import N_MEMBERS
from test_pair_sums import CUTOFF, REACH, TERMS, structures

from mlpot.neighbours import find_pairs
from mlpot.terms.pair_ensemble import N_KNOTS, SHORTEST, pair_members


def weights_of(term):
    return np.random.default_rng(4).normal(size=(term.n_sparse, N_MEMBERS))


def formulas(term, weights, pairs):
    """dE/dvectors (n_pairs, 3, N_MEMBERS) of the term's prediction with the weights of each member."""
    gradients = np.zeros((N_MEMBERS, pairs.n_pairs, 3))
    for own, mine in zip(weights.T, gradients, strict=True):
        term.predict(pairs, np.ascontiguousarray(own), np.zeros(pairs.n_atoms), mine)
    return np.moveaxis(gradients, 0, 2)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", TERMS)
def test_equal_the_formulas(name):
    """Linear between knots, held nearer than any two atoms are."""
    term, weights = TERMS[name], weights_of(TERMS[name])
    if name == "some pairs without":
        term = replace(term, energy_scales=tuple(np.linspace(0.2, 3.0, 6)))
    compiled, along = term.compile(np.ones(term.n_sparse)), pair_members(term, weights)
    for atoms in structures(term.species):
        pairs = find_pairs(atoms, REACH)
        found = observed_pairs(compiled, pairs, along)[4]
        exact, kink = formulas(term, weights, pairs), CUTOFF - term.cutoff_width
        apart = (pairs.distances > 1.0) & (np.abs(pairs.distances - kink) > CUTOFF / N_KNOTS)
        largest = np.abs(formulas_between(term, weights)).max()
        tolerance = 5 * (CUTOFF / N_KNOTS / min(term.length_scale, term.cutoff_width)) ** 2 * largest + 1e-6
        np.testing.assert_allclose(found[apart], exact[apart], rtol=0, atol=tolerance)
        # the curvature jumps where the cutoff's step begins, and the slope over the distance bends at short ones
        near = ~apart & (pairs.distances > SHORTEST + CUTOFF / N_KNOTS)
        np.testing.assert_allclose(found[near], exact[near], rtol=0, atol=0.01 * largest)
        assert np.all(np.isfinite(found))
        assert not found[pairs.distances >= CUTOFF].any()


def formulas_between(term, weights):
    """Slopes at all distances, eV/A."""
    radii, begin, slopes = np.linspace(SHORTEST, CUTOFF, 500), 0, [np.zeros(1)]
    for points, scale in zip(term.sparse_radii, term.energy_scales, strict=True):
        own = weights[begin : begin + len(points)]
        begin += len(points)
        slopes.append((term.covariance(radii, points, scale)[1] @ own).ravel())
    return np.concatenate(slopes)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_no_bit(n_threads, monkeypatch):
    term = TERMS["two elements"]
    compiled, along = term.compile(np.ones(term.n_sparse)), pair_members(term, weights_of(term))
    pairs = find_pairs(structures(term.species)[0] * (2, 2, 2), REACH)
    found = []
    for n in (1, n_threads):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n))
        found.append(observed_pairs(compiled, pairs, along)[4])
    np.testing.assert_array_equal(*found)
