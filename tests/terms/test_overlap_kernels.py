"""Kernels of overlaps at values that features of one sign never have."""

import numpy as np
from numpy.testing import assert_allclose

from mlpot.terms.kernels import make_kernel


def test_fractional_powers_of_negative_overlaps_are_zero():
    kernel, s = make_kernel("polynomial", zeta=2.5), np.array([-0.3, 0.5])
    assert_allclose(kernel.value(s), [0.0, 0.5**2.5])
    assert_allclose(kernel.slope(s), [0.0, 2.5 * 0.5**1.5])


def test_whole_powers_keep_the_sign():
    kernel = make_kernel("polynomial", zeta=3)
    assert_allclose([kernel.value(-0.3), kernel.slope(-0.3)], [-0.027, 0.27])
