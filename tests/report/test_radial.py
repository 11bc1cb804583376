"""Radial distribution functions: of an ideal gas, of perfect crystals, of mixtures."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlpot.errors import StructureError
from mlpot.report.radial import radial_distributions


@pytest.mark.slow
def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(0)
    n, side = 400, 20.0
    frames = [Atoms(np.repeat([6, 14], [n // 4, 3 * n // 4]), rng.uniform(0, side, (n, 3)), cell=3 * [side], pbc=True)]
    frames += [Atoms(f.numbers, rng.uniform(0, side, (n, 3)), cell=3 * [side], pbc=True) for f in 19 * frames]
    frames = [f for f in frames if f.get_all_distances(mic=True)[np.triu_indices(n, 1)].min() > 0.1]
    found = radial_distributions(frames, cutoff=6.0, n_bins=6)
    assert set(found) == {(6, 6), (6, 14), (14, 14)}
    for (a, b), g in found.items():
        n_b = np.count_nonzero(frames[0].numbers == b)
        # an atom is no neighbour of itself, and nearer than half the cell it has no images either
        expected = (n_b - (a == b)) / n_b
        np.testing.assert_allclose(g.values[1:], expected, rtol=0.08)
        assert np.mean(g.values[3:]) == pytest.approx(expected, rel=0.02)
        assert g.coordination(6.0) == pytest.approx(expected * n_b / side**3 * 4 * np.pi / 3 * 6.0**3, rel=0.02)


@pytest.mark.parametrize("repeat", [1, 2])
def test_shells_of_a_crystal(repeat):
    """Diamond: 4 neighbours at sqrt(3)/4, 12 at sqrt(1/2), 12 at sqrt(11)/4 lattice constants; small cells have images."""
    a = 5.43
    g = radial_distributions([bulk("Si", "diamond", a, cubic=True) * repeat], cutoff=5.0, n_bins=500)[14, 14]
    shells = a * np.array([np.sqrt(3) / 4, np.sqrt(0.5), np.sqrt(11) / 4])
    occupied = np.flatnonzero(g.values)
    assert len(occupied) == 3
    for k, shell in zip(occupied, shells, strict=True):
        assert g.edges[k] <= shell <= g.edges[k + 1]
    np.testing.assert_allclose(g.neighbours[occupied], [4, 12, 12])
    assert [round(g.coordination(r)) for r in (2.0, 3.0, 4.0, 4.7)] == [0, 4, 16, 28]
    density = 8 / a**3
    width = np.diff(g.edges)[0]
    assert g.values[occupied[0]] == pytest.approx(4 / (density * 4 * np.pi * shells[0] ** 2 * width), rel=0.01)
    np.testing.assert_allclose(g.radii[[0, -1]], [0.005, 4.995])


def test_pairs_of_elements_and_averages():
    salt = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    wide = salt.copy()
    wide.set_cell(1.1 * salt.cell.array, scale_atoms=True)
    found = radial_distributions([salt, wide], cutoff=4.5, n_bins=450)
    assert set(found) == {(11, 11), (11, 17), (17, 17)}
    assert found[11, 17].coordination(2.9) == pytest.approx(3)  # six in one frame of two
    assert found[11, 17].coordination(3.2) == pytest.approx(6)
    assert found[17, 17].coordination(4.5) == pytest.approx(12)


def test_what_has_no_distribution():
    with pytest.raises(StructureError, match="periodic in three dimensions"):
        radial_distributions([Atoms("H2", [[0, 0, 0], [0, 0, 1]])])
    with pytest.raises(StructureError, match="no frames"):
        radial_distributions([])
