"""Where atoms touch: the coordinate and the growth of pair potentials, and what they are for."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot
from mlpot.terms.pair import PairTerm
from mlpot.terms.pair_kernel import bent, short_range_growth


@pytest.mark.parametrize("function", [lambda r: bent(r, 1.9), lambda r: short_range_growth(r, 1.9, 0.33)])
def test_derivatives(function):
    r, step = np.linspace(0.3, 6.0, 40), 1e-5
    _, slope, curvature = function(r)
    ahead, behind = function(r + step), function(r - step)
    np.testing.assert_allclose(slope, (ahead[0] - behind[0]) / (2 * step), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(curvature, (ahead[1] - behind[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_what_holds_at_the_contact():
    """A length scale as given, twice the prior, and growth by e over the repulsion length."""
    _, slope, _ = bent(np.array([1.42]), 1.42)
    value, growth, _ = short_range_growth(np.array([1.42]), 1.42, 0.33)
    assert slope[0] == pytest.approx(1.0)
    assert value[0] == pytest.approx(2.0) and growth[0] == pytest.approx(-1.0 / 0.33)
    near, far = bent(np.array([0.71, 5.0]), 1.42)[1]
    assert near == pytest.approx(np.sqrt(2.5)) and far < 0.35  # shorter distances are resolved better


def test_without_contacts_it_is_gaps_kernel():
    r = np.array([1.0, 2.0, 3.5])
    np.testing.assert_array_equal(bent(r, 0.0), [r, np.ones(3), np.zeros(3)])
    np.testing.assert_array_equal(short_range_growth(r, 0.0, 0.0)[0], np.ones(3))
    plain = PairTerm((14,), 4.0, 1.0, 0.5, 2.0, (r,))
    gap = 4.0 * np.exp(-0.5 * ((r[:, None] - r) / 0.5) ** 2) * [1.0, 1.0, 0.5] * np.array([1.0, 1.0, 0.5])[:, None]
    np.testing.assert_allclose(plain.prior()[0], gap, atol=1e-15)


def test_the_kernel_of_two_distances():
    """Through a sparse point at the coordinate of the second one, by hand."""
    term = PairTerm((6, 8), 5.0, 1.0, 0.25, 3.0, (np.empty(0), bent(np.array([1.3]), 1.42)[0], np.empty(0)), (1.5, 1.42, 1.3), 0.33)
    value, slope = term.covariance(np.array([1.1]), term.sparse_radii[1], 3.0, 1.42)
    stretch, bend = np.hypot(0.71, 1.42), 0.71
    apart = stretch * (np.arcsinh(1.1 / bend) - np.arcsinh(1.3 / bend))
    grown = 1.0 + np.exp((1.42**2 - 1.1**2) / (2 * 1.42 * 0.33))
    assert value[0, 0] == pytest.approx(9.0 * np.exp(-0.5 * (apart / 0.25) ** 2) * grown, rel=1e-12)
    ahead, behind = (term.covariance(np.array([1.1 + h]), term.sparse_radii[1], 3.0, 1.42)[0] for h in (1e-6, -1e-6))
    assert slope[0, 0] == pytest.approx((ahead - behind)[0, 0] / 2e-6, rel=1e-7)


def labelled(atoms):
    atoms.calc = EMT()
    values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **values)
    return atoms


@pytest.fixture(scope="module")
def copper():
    """Of twelve rattled and strained cells of eight atoms."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = bulk("Cu").repeat(2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.08 * rng.standard_normal(atoms.positions.shape)
        frames.append(labelled(atoms))
    return mlpot.fit(frames, mlpot.FitConfig(preset="fast", cutoff=4.5))


@pytest.mark.parametrize("scale", [0.9, 0.95, 1.0, 1.05, 1.1])
def test_a_compressed_crystal_is_not_known_like_its_data(copper, scale):
    """Forces of a crystal compressed by a tenth are off by 0.4 eV/A; without growth 0.04 were expected."""
    atoms = labelled(bulk("Cu", a=3.6 * scale).repeat(2))
    atoms.rattle(0.08, seed=51)
    truth = labelled(atoms.copy()).get_forces()
    prediction = copper.predict(atoms, uncertainty=True)
    error, said = (np.sqrt(np.mean(x**2)) for x in (prediction.forces - truth, prediction.forces_std))
    assert error < 2.5 * said and said < 10 * max(error, 0.005)
