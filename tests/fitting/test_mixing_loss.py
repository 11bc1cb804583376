"""The loss of mixed channels in small: leave-out errors by brute force, derivatives by finite differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mlpot.fitting.mixing_loss import N_FOLDS, ElementKernel, cross_validated
from mlpot.fitting.mixing_sample import ElementSample

STEP = 1e-5


def slope(function, x, along):
    return (function(x + STEP * along) - function(x - STEP * along)) / (2 * STEP)


@pytest.fixture
def kernel():
    features = np.random.default_rng(0).uniform(0.2, 1.0, (7, 3, 4))
    sample = ElementSample((), np.array([0, 0, 1, 3, 3, 3, 4]), np.array([1, 4]))
    return ElementKernel(sample, features, 4.0, 0.7)


def test_rows_are_sums_over_the_environments_of_a_structure(kernel):
    features, rows = kernel.features, kernel.rows(6)
    for structure, own in ((0, [0, 1]), (1, [2]), (2, []), (3, [3, 4, 5]), (4, [6]), (5, [])):
        for column, point in enumerate((1, 4)):
            s = features[own] @ features[point, 0]
            assert rows[structure, 0, column] == pytest.approx(0.49 * np.sum(s[:, 0] ** 4))
            assert_allclose(rows[structure, 1:, column], 0.49 * np.sum(4 * s[:, :1] ** 3 * s[:, 1:], axis=0))
    assert_allclose(np.diagonal(kernel.prior), 0.49 * np.sum(features[[1, 4], 0] ** 2, axis=1) ** 4, rtol=1e-3)


def test_derivatives_of_a_kernel(kernel):
    rng = np.random.default_rng(1)
    by_rows, by_prior, along = rng.normal(size=(6, 3, 2)), rng.normal(size=(2, 2)), rng.normal(size=kernel.features.shape)

    def loss(features):
        moved = ElementKernel(kernel.element, features, kernel.zeta, kernel.energy_scale)
        return np.sum(by_rows * moved.rows(6)) + np.sum(by_prior * moved.prior)

    assert np.sum(kernel.vjp(by_rows, by_prior) * along) == pytest.approx(slope(loss, kernel.features, along), rel=1e-7)


def test_errors_are_those_of_folds_left_out():
    """By one ridge regression per fold, and the derivatives of the loss."""
    rng = np.random.default_rng(2)
    rows, labels, root = rng.normal(size=(11, 3, 4)), 3 * rng.normal(size=(11, 3)), rng.normal(size=(4, 4))
    present, prior = rng.uniform(size=labels.shape) < 0.8, root @ root.T + np.eye(4)
    rows, labels = rows * present[..., None], labels * present
    errors = np.empty_like(labels)
    for fold in range(N_FOLDS):
        out = np.arange(11) % N_FOLDS == fold
        design = rows[~out].reshape(-1, 4)
        weights = np.linalg.solve(design.T @ design + prior, design.T @ labels[~out].ravel())
        errors[out] = labels[out] - rows[out] @ weights
    sizes = np.where(present, np.sqrt(errors**2 + 1), 0.0)
    expected = sum(np.log(sizes[:, kinds].sum() / present[:, kinds].sum()) for kinds in (slice(1), slice(1, None)))
    loss, by_rows, by_prior = cross_validated(rows, labels, prior, present)
    assert loss == pytest.approx(expected, rel=1e-10)
    along, turn = rng.normal(size=rows.shape), rng.normal(size=(4, 4))
    found = slope(lambda r: cross_validated(r, labels, prior, present)[0], rows, along)
    assert np.sum(by_rows * along) == pytest.approx(found, rel=1e-6)
    found = slope(lambda p: cross_validated(rows, labels, p, present)[0], prior, turn + turn.T)
    assert np.sum(by_prior * (turn + turn.T)) == pytest.approx(found, rel=1e-6)
