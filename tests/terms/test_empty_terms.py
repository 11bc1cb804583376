"""Terms before they have sparse points, and choices that do not depend on the unit of energy."""

import numpy as np
import pytest
from conftest import SMALL_TERMS
from radial_functions import PATH

import mlpot
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
