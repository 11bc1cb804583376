"""Absolute sizes against formulas and constants typed here from the literature, which no factor in the package can follow."""

import numpy as np
import pytest
from ase import Atoms

from mlpot.neighbours import find_pairs
from mlpot.terms.baseline import Baseline, zbl
from mlpot.terms.glue import Glue


@pytest.mark.parametrize(("first", "second", "distance"), [(14, 14, 0.3), (14, 14, 0.8), (8, 29, 0.5), (1, 79, 0.6)])
def test_the_universal_repulsion(first, second, distance):
    """Ziegler, Biersack and Littmark (1985): screening length 0.8854 a_0 / (Z_1^0.23 + Z_2^0.23)."""
    x = distance * (first**0.23 + second**0.23) / (0.8854 * 0.5291772)
    phi = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x) + 0.2802 * np.exp(-0.4029 * x)
    phi += 0.02817 * np.exp(-0.2016 * x)
    ours = zbl(np.array([distance]), np.array([first]), np.array([second]))[0]
    assert ours[0] == pytest.approx(14.399645 * first * second / distance * phi, rel=1e-3)


def test_the_repulsion_of_a_structure_and_its_derivative():
    """Each atom of a pair has half of it; forces are the derivative, also where it is switched off."""
    baseline = Baseline({8: -2.0, 14: 1.0})

    def predicted(distance):
        pairs = find_pairs(Atoms("SiO", [[0, 0, 0], [0, 0, distance]]), 3.0)
        energies, gradients = np.zeros(2), np.zeros((2, 3))
        baseline.predict(pairs, energies, gradients)
        return energies, pairs.forces(gradients)

    for distance in (0.4, 0.9, 1.4):
        energies, forces = predicted(distance)
        whole = zbl(np.array([distance]), np.array([14]), np.array([8]))[0][0]
        np.testing.assert_allclose(energies, [1.0 + 0.5 * whole, -2.0 + 0.5 * whole], rtol=1e-12)
        slope = (predicted(distance + 1e-5)[0].sum() - predicted(distance - 1e-5)[0].sum()) / 2e-5
        assert forces[1, 2] == pytest.approx(-slope, rel=1e-6) and abs(slope) > 0.01
        np.testing.assert_allclose(forces[0], -forces[1])


def test_pair_potentials_of_a_glue_are_flat_at_both_ends():
    """QUIP's splines have given slopes there, 0; the table itself is steep."""
    r = np.linspace(1.8, 3.9, 10)
    table = (tuple(r), tuple(3 * np.exp(-r)))
    glue = Glue((14,), (0.0,), (2.0,), (((0.0, 1.0), (0.0, 0.0)),), ((14, 14, table),))

    def slope(distance):
        gradients = np.zeros((2, 3))
        glue.predict(find_pairs(Atoms("Si2", [[0, 0, 0], [0, 0, distance]]), 4.0), np.zeros(2), gradients)
        return 2 * gradients[0, 2]

    assert abs(slope(1.8)) < 1e-12 and abs(slope(3.9 - 1e-9)) < 1e-6
    assert slope(2.5) == pytest.approx(-3 * np.exp(-2.5), rel=0.05)
