"""Bounds on what a compiled term leaves out, against the change itself."""

import numpy as np
import pytest

from mlpot.terms.soap_compiled import SAFETY, _features_that_matter

SCALE, SMALL = 0.5, 1e-3
OPPOSITE = np.array([[1.0, SMALL], [1.0, -SMALL]]), np.array([0.8, -0.8]), 0.0
"""Two sparse points whose energies cancel and whose slopes by the last feature add up: it acts directly."""
WITHOUT = np.array([[1.0, 0.0]]), np.array([0.8]), 10 * SMALL
"""A sparse point without the last feature, which simulations may bring: it acts through the norm."""


def energy(features, points, weights, zeta, constant):
    """Of one environment, whose features are normalised and have a constant beside them, eV."""
    return float(SCALE**2 * weights @ (points @ features / np.linalg.norm(features) + constant**2) ** zeta)


@pytest.mark.parametrize("zeta", [2.0, 4.0, 6.0])
@pytest.mark.parametrize(
    ("points", "weights", "largest", "constant"),
    [(*OPPOSITE, 0.0), (*OPPOSITE, 1.5), (*WITHOUT, 0.0)],
    ids=["slope", "constant", "norm"],
)
def test_what_changes_an_energy_by_more_stays(points, weights, largest, constant, zeta):
    """A feature counts as up to `SAFETY` times as large as at any sparse point, and as `largest`."""
    extreme = np.array([1.0, max(SAFETY * np.abs(points[:, 1]).max(), largest)])
    change = abs(np.subtract(*(energy(features, points, weights, zeta, constant) for features in (extreme, extreme * [1, 0]))))
    arguments = (points, np.array([0.0, largest]), constant, weights, SCALE, zeta)
    assert 1 in _features_that_matter(*arguments, 0.9 * change)[0]
    assert 1 not in _features_that_matter(*arguments, 2.0 * change)[0]
