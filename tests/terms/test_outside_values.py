"""Absolute sizes against formulas and constants typed here from the literature, which no factor in the package can follow."""

import numpy as np
import pytest

from mlpot.terms.baseline import zbl


@pytest.mark.parametrize(("first", "second", "distance"), [(14, 14, 0.3), (14, 14, 0.8), (8, 29, 0.5), (1, 79, 0.6)])
def test_the_universal_repulsion(first, second, distance):
    """Ziegler, Biersack and Littmark (1985): screening length 0.8854 a_0 / (Z_1^0.23 + Z_2^0.23)."""
    x = distance * (first**0.23 + second**0.23) / (0.8854 * 0.5291772)
    phi = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x) + 0.2802 * np.exp(-0.4029 * x)
    phi += 0.02817 * np.exp(-0.2016 * x)
    ours = zbl(np.array([distance]), np.array([first]), np.array([second]))[0]
    assert ours[0] == pytest.approx(14.399645 * first * second / distance * phi, rel=1e-3)
