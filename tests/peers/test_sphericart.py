"""Another implementation of real spherical harmonics, with our order and signs."""

import numpy as np
import pytest

from mlpot.descriptors.reference import real_spherical_harmonics

sphericart = pytest.importorskip("sphericart", reason="sphericart is not installed")


def test_harmonics():
    """The core is held against this twin in tests/kernels."""
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    theirs = sphericart.SphericalHarmonics(12).compute(directions)
    np.testing.assert_allclose(real_spherical_harmonics(12, directions), theirs, rtol=0, atol=1e-12)
