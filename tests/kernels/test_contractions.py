"""Invariants of three and four densities against an integral over rotations, and what they tell apart."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlpot.checks import homometric_pair
from mlpot.descriptors.contractions import make_contractions, make_program
from mlpot.descriptors.density import SoapDescriptor
from mlpot.descriptors.invariant_polynomials import invariant_polynomials
from mlpot.descriptors.radial_basis import GapRadialBasis
from mlpot.descriptors.reference import real_spherical_harmonics
from mlpot.neighbours import find_pairs


def rotation_of_harmonics(l_max, rotation):
    """D (n_lm, n_lm) of real harmonics, from their values in some directions."""
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before, after = (real_spherical_harmonics(l_max, x) for x in (directions, rotation.apply(directions)))
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def density_of(points, l_max):
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    return real_spherical_harmonics(l_max, directions).sum(axis=0)


@pytest.mark.parametrize(("degree", "l_max"), [(3, 4), (4, 3)])
def test_invariant_under_rotations_and_reflections(degree, l_max):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(5, 3))
    polynomials = invariant_polynomials(l_max, degree)
    values = [p(density_of(points, l_max)) for p in polynomials]
    turned = Rotation.random(rng=rng).apply(points) * [-1, 1, 1]
    np.testing.assert_allclose([p(density_of(turned, l_max)) for p in polynomials], values, atol=1e-12)


@pytest.mark.parametrize(("degree", "l_max"), [(3, 2), (4, 2)])
def test_their_overlap_is_an_integral_over_rotations(degree, l_max):
    """Complete, independent and normalised: sum_t B_t(A) B_t(A') is the average of (A . R A')^nu over rotations and
    reflections; of degree 4 the polynomials with an l = 0 are left out, so A_00 = 0 there."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, (l_max + 1) ** 2))
    if degree == 4:
        first[0] = 0.0
    polynomials = invariant_polynomials(l_max, degree)
    ours = sum(p(first) * p(second) for p in polynomials)
    # a product quadrature in Euler angles is exact for the polynomials that occur
    n = 2 * degree * l_max + 2
    cosines, weights = np.polynomial.legendre.leggauss(n)
    about = 2 * np.pi * np.arange(n) / n
    about_z = [rotation_of_harmonics(l_max, Rotation.from_euler("z", angle)) for angle in about]
    parity = np.repeat((-1.0) ** np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)
    mean = 0.0
    for cosine, weight in zip(cosines, weights, strict=True):
        tilt = rotation_of_harmonics(l_max, Rotation.from_euler("y", np.arccos(cosine)))
        lefts, rights = np.array(about_z) @ first, np.array(about_z) @ second
        for sign in (np.ones_like(parity), parity):
            mean += 0.25 * weight * np.mean((lefts @ tilt @ (sign * rights).T) ** degree)
    assert ours == pytest.approx(mean, rel=1e-10)
    assert abs(ours) > 1e-3


def test_a_polynomial_is_a_third_of_its_slope_times_the_density():
    program = make_program(3, 3)
    density = np.random.default_rng(3).normal(size=16)
    nodes = list(density)
    for left, right in zip(program.left, program.right, strict=True):
        nodes.append(nodes[left] * nodes[right])
    for t, polynomial in enumerate(program.polynomials):
        rows = range(program.rows[t], program.rows[t + 1])
        slopes = [program.coefficient[e] @ np.array(nodes)[program.node[e]] for e in map(entries(program), rows)]
        total = np.dot(slopes, density[program.variable[rows.start : rows.stop]])
        assert total / 3 == pytest.approx(polynomial(density), rel=1e-12)


def entries(program):
    return lambda row: slice(program.entries[row], program.entries[row + 1])


@pytest.mark.parametrize("n_mixed", [1, 3, 4])
def test_overlaps_are_a_mean_over_mixed_channels(n_mixed):
    """However many there are, equal ones weigh as one: the sum over them of squared factors is (weight / own)^(2 (nu - 2))."""
    made = make_contractions(4, 2, 0.3, np.ones((4, 1, 3)), (6,), n_mixed, 0, 1.5)
    assert made.shares.shape == (3, n_mixed, 4)
    np.testing.assert_allclose(n_mixed * made.scales**2, [0.2**2, 0.2**4], rtol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_homometric_environments(order):
    """Pozdnyakov et al., doi:10.1103/PhysRevLett.125.166001: no power spectrum tells these two apart."""
    basis = GapRadialBasis(6, 5, 3.0, 1.0, 0.3)
    descriptor = SoapDescriptor((1, 6), basis)
    if order > 2:
        made = make_contractions(order, 3, 0.3, descriptor.weights, (1, 6), 4, 0, 1.0)
        descriptor = SoapDescriptor((1, 6), basis, contractions=made)
    pair = homometric_pair(6, 1, 1.1)
    assert pair[0].get_all_distances()[0].tolist() == pytest.approx(pair[1].get_all_distances()[0].tolist())
    first, second = (descriptor.compute(find_pairs(atoms, 3.0), np.array([0])) for atoms in pair)
    distance = np.linalg.norm(first - second)
    assert distance < 1e-9 if order == 2 else distance > 1e-3
