"""One choice of instruction set reaches every loop of the core."""

import numpy as np
import pytest
from ase.build import bulk
from compiled_terms import predicted
from mlpot._ext.core import use_instructions

from mlpot.neighbours import find_pairs
from mlpot.terms.pair import PairTerm
from mlpot.terms.three_body import ThreeBodyTerm

CUTOFF = 4.0


def pair_term():
    return PairTerm((14,), CUTOFF, 1.0, 0.5, 2.0, (np.linspace(1.6, 3.9, 20),))


def three_body_term():
    """Of enough points for a table, whose lanes are added up in another order by every instruction set."""
    rng = np.random.default_rng(0)
    r, s = rng.uniform(1.8, 3.5, (2, 200))
    points = np.stack([r + s, (r - s) ** 2, np.sqrt(r**2 + s**2)], axis=1)
    return ThreeBodyTerm((14,), 14, (14, 14), CUTOFF, 0.8, np.array([2.0, 3.0, 1.6]), 0.4, points, np.ones(200))


@pytest.mark.parametrize("make", [pair_term, three_body_term])
def test_the_choice_reaches_pairs_and_triplets(make):
    """Sums in another order differ in their last bits, a few more where coefficients of a table cancel."""
    if use_instructions(-1) == 0:
        pytest.skip("this processor has the baseline only")
    compiled = make().compile(np.random.default_rng(1).normal(size=make().n_sparse), 1e-8)
    atoms = bulk("Si", cubic=True) * (2, 2, 1)
    atoms.rattle(0.2, seed=1)
    pairs = find_pairs(atoms, CUTOFF)
    found = []
    try:
        for level in (0, -1):
            use_instructions(level)
            energies, gradients = predicted(compiled, pairs)
            found.append(np.concatenate([energies, gradients.ravel()]))
    finally:
        use_instructions(-1)
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8, atol=1e-8)
