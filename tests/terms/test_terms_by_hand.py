"""Terms before they have sparse points, variances by their formula, and a choice that does not depend on the unit of energy."""

import numpy as np
import pytest
from conftest import SMALL_TERMS, make_frames
from radial_functions import PATH

import mlpot
from mlpot.neighbours import find_pairs
from mlpot.terms.registry import empty_term
from mlpot.terms.soap_compiled import _features_in_double


@pytest.mark.parametrize("settings", [*SMALL_TERMS, {"type": PATH, "cutoff": 4.0}], ids=["pair", "soap", "own"])
def test_an_empty_term_has_no_points(settings):
    term = empty_term(mlpot.FitConfig(terms=[settings]).terms[0], (6, 14), 1.5)
    assert term.n_sparse == 0 and all(len(points) == 0 for points in term.points)


def test_the_precision_of_features_follows_the_slopes_of_the_energy():
    """They are proportional to the squared energy scale and to the weights, so that only their product counts."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 120)) * np.geomspace(1.0, 1e-3, 120)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    weights = 3e2 * rng.normal(size=60)
    one, other = _features_in_double(features, 100 * weights, 1.0, 4.0), _features_in_double(features, weights, 10.0, 4.0)
    assert 0 < one == other < 120
    assert one > _features_in_double(features, weights, 1.0, 4.0)


def test_variances_of_instances():
    """QUIP's local_gap_variance: k_ii + r^2 - k' (K_mm + r^2)^-1 k, with the square of the regularisation r in both places."""
    pairs = find_pairs(make_frames(1)[0], 4.0)
    term = empty_term(mlpot.FitConfig(terms=[{**SMALL_TERMS[1], "cutoff": 4.0, "zeta": 2}]).terms[0], (14,), 1.5)
    features = term.descriptor.compute(pairs)
    points, scale, r = features[:6], 1.5**2, 0.3
    rows = scale * (features @ points.T) ** 2
    known = scale * (points @ points.T) ** 2 + r**2 * np.eye(6)
    expected = scale + r**2 - np.einsum("as,st,at->a", rows, np.linalg.inv(known), rows)
    found = term.with_points((points,)).instance_variances(pairs, r)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert expected.max() > 1.2 * expected.min()
