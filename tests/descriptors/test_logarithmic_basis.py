"""Radial functions in the logarithm of the distance: formula, derivatives, and the same sharpness at all distances."""

import numpy as np
import pytest

from mlpot.descriptors.logarithmic_basis import LogarithmicBasis

BASIS = LogarithmicBasis(n_max=5, l_max=3, cutoff=6.0, cutoff_width=6.0, angular_width=0.5, decay=0.7, own_weight=4.0)
PLACES = np.array([0.4, 0.96, 1.7, 3.3, 5.9])


def test_values_are_those_of_the_formula():
    found = BASIS.evaluate(PLACES)[0]
    x = np.log(np.hypot(PLACES, 0.5))
    centres = np.linspace(np.log(np.hypot(0.8, 0.5)), np.log(np.hypot(5.4, 0.5)), 5)
    step = (1 + np.cos(np.pi * PLACES / 6.0)) / 2
    for n, centre in enumerate(centres):
        for degree in range(4):
            shell = np.exp(-((x - centre) ** 2) / (2 * (centres[1] - centres[0]) ** 2))
            smeared = np.exp(-degree * (degree + 1) * 0.5**2 / 2) * np.exp(-0.7 * x)
            assert np.allclose(found[:, n, degree], shell * smeared * step, rtol=1e-12)
    assert BASIS.self_coefficients().tolist() == [4.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("order", [0, 1])
def test_derivatives(order):
    h = 1e-4
    ahead, behind = (BASIS.evaluate(PLACES + s * h)[order] for s in (1, -1))
    found = BASIS.evaluate(PLACES)[order + 1]
    assert np.abs(found - (ahead - behind) / (2 * h)).max() < 1e-6 * np.abs(found).max()


def test_nothing_beyond_the_cutoff():
    assert not BASIS.evaluate(np.array([6.0, 6.5]))[:2].any()
