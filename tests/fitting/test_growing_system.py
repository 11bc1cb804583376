"""Least squares that grow in rows and columns: against one built at once, against dense matrices, through files."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpot.fitting.design_matrix import Group
from mlpot.fitting.growing_system import GrowingMatrix, GrowingSystem
from mlpot.fitting.posterior import Posterior
from mlpot.fitting.prior import Prior

GROUPS = [Group("energy", ""), Group("forces", "", 6), Group("forces", "", 14)]
NOISES = dict(zip(GROUPS, (0.1, 0.3, 1.0), strict=True))
SCALES = np.array([0.7, 2.0])
COMBINATION = np.array([1.0, -0.5])
JITTER = 1e-6


def kernel(a, b):
    return np.exp(-0.5 * np.sum((a[:, None] - b) ** 2, axis=-1))


class Growing:
    """Points in the plane: those of two blocks, and those of labels in groups; a label sees both blocks, one of them shifted."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.system = GrowingSystem(2, 2)
        self.points = [np.empty((0, 2)), np.empty((0, 2))]
        self.rows, self.right, self.group_of = np.empty((0, 2)), np.empty((0, 2)), []

    def values(self, places, points):
        """Covariances (n, M_b) of labels with the points of every block."""
        return [kernel(places, points[0]), kernel(places + 0.7, points[1])]

    def add_columns(self, *counts):
        new = [2 * self.rng.normal(size=(n, 2)) for n in counts]
        prior = self.system.prior.with_points(
            [kernel(old, own) for old, own in zip(self.points, new, strict=True)],
            [kernel(own, own) + JITTER * np.eye(len(own)) for own in new],
        )
        self.system.add_columns(prior, self.values(self.rows, new))
        self.points = [np.concatenate(both) for both in zip(self.points, new, strict=True)]

    def add_rows(self, n, group):
        places, right = 2 * self.rng.normal(size=(n, 2)), self.rng.normal(size=(n, 2))
        self.system.add_rows(group, np.concatenate(self.values(places, self.points), axis=1), right)
        self.rows, self.right = np.concatenate([self.rows, places]), np.concatenate([self.right, right])
        self.group_of += [group] * n

    def at_once(self):
        """The system of the same rows and columns, made in a single step."""
        system = GrowingSystem(2, 2)
        blocks = [kernel(own, own) + JITTER * np.eye(len(own)) for own in self.points]
        prior = system.prior.with_points([np.empty((0, len(own))) for own in self.points], blocks)
        system.add_columns(prior, [np.empty((0, len(own))) for own in self.points])
        rows = np.concatenate(self.values(self.rows, self.points), axis=1)
        for group in self.system.names:
            own = [g == group for g in self.group_of]
            system.add_rows(group, rows[own], self.right[own])
        return system


def fitted(system):
    groups = system.equations(COMBINATION)
    return Posterior(system.prior, groups, {group: NOISES[group] for group in groups}, SCALES)


def grown(steps, seed):
    found = Growing(seed)
    for first, second, n_rows, group in steps:
        found.add_columns(first, second)
        found.add_rows(n_rows, GROUPS[group])
    return found


STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=7
)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.integers(0, 2**31))
def test_growth_in_any_portions_equals_one_step(steps, seed):
    """Columns and rows in any portions, also none."""
    found = grown(steps, seed)
    ours, theirs = found.system.equations(COMBINATION), found.at_once().equations(COMBINATION)
    assert list(ours) == list(theirs)
    for group, equations in ours.items():
        other = theirs[group]
        np.testing.assert_allclose(equations.gram, other.gram, atol=1e-8 * max(np.abs(other.gram).max(initial=0), 1))
        np.testing.assert_allclose(equations.right, other.right, atol=1e-7)
        assert (equations.n_rows, np.round(equations.square, 9)) == (other.n_rows, np.round(other.square, 9))
    a, b = fitted(found.system), fitted(found.at_once())
    np.testing.assert_allclose(found.system.refined(a, COMBINATION), found.at_once().refined(b, COMBINATION), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.integers(0, 2**31))
def test_it_solves_dense_least_squares(steps, seed):
    found = grown(steps, seed)
    rows = np.concatenate(found.values(found.rows, found.points), axis=1)
    if not rows.shape[1]:
        return
    sizes = [len(own) for own in found.points]
    scales, sigma = np.repeat(SCALES, sizes), np.array([NOISES[g] for g in found.group_of])
    priors = [np.linalg.cholesky(kernel(own, own) + JITTER * np.eye(len(own))).T for own in found.points]
    upper = np.zeros((sum(sizes),) * 2)
    upper[: sizes[0], : sizes[0]], upper[sizes[0] :, sizes[0] :] = priors
    dense = np.concatenate([upper / scales, rows / sigma[:, None]])  # of coefficients for scales of 1 eV
    labels = np.concatenate([np.zeros(len(upper)), found.right @ COMBINATION / sigma])
    expected = np.linalg.lstsq(dense, labels)[0]
    v = found.system.prior.coefficients(found.system.refined(fitted(found.system), COMBINATION))
    np.testing.assert_allclose(dense @ v, dense @ expected, atol=1e-6)


def test_it_comes_back_bit_for_bit_and_goes_on():
    steps = [(4, 0, 10, 1), (3, 5, 7, 0), (0, 2, 9, 2)]
    one = grown(steps, 3)
    arrays = {name: array.copy() for name, array in one.system.arrays().items()}
    again = GrowingSystem.of_arrays(arrays, one.system.names)
    other = grown(steps, 3)
    other.system = again
    for each in (one, other):
        each.rng = np.random.default_rng(9)
        each.add_columns(2, 3)
        each.add_rows(8, GROUPS[1])
    ours, theirs = one.system.arrays(), other.system.arrays()
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    np.testing.assert_array_equal(
        one.system.refined(fitted(one.system), COMBINATION), again.refined(fitted(again), COMBINATION)
    )


def test_a_matrix_that_grows_keeps_what_it_holds():
    rng, kept = np.random.default_rng(0), np.zeros((0, 0))
    matrix = GrowingMatrix(kept)
    for n_rows, n_columns in rng.integers(0, 9, (20, 2)):
        old = matrix.shape
        matrix.grow(n_rows, n_columns)
        assert np.all(matrix.values[old[0] :] == 0) and np.all(matrix.values[:, old[1] :] == 0)
        matrix.values[old[0] :] = rng.normal(size=(n_rows, matrix.shape[1]))
        matrix.values[:, old[1] :] = rng.normal(size=(matrix.shape[0], n_columns))
        np.testing.assert_array_equal(matrix.values[: old[0], : old[1]], kept)
        kept = matrix.values.copy()


def test_a_prior_that_grows_is_the_prior():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(9, 2))
    whole = kernel(points, points) + JITTER * np.eye(9)
    prior = Prior((np.empty((0, 0)), np.empty((0, 0))))
    for begin, end in ((0, 4), (4, 4), (4, 9)):
        new = whole[begin:end, begin:end]
        prior = prior.with_points([whole[:begin, begin:end], np.empty((0, 0))], [new, np.empty((0, 0))])
    np.testing.assert_allclose(prior.factors[0], np.linalg.cholesky(whole), atol=1e-9)
    rows = rng.normal(size=(5, 9))
    np.testing.assert_allclose(
        prior.whitened(rows) @ prior.whitened(rows).T, rows @ np.linalg.solve(whole, rows.T), rtol=1e-5
    )
    u = rng.normal(size=9)
    np.testing.assert_allclose(rows @ prior.coefficients(u), prior.whitened(rows) @ u, rtol=1e-6)
