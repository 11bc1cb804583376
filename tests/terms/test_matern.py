"""Pair terms whose potentials have two derivatives only: the kernel, the sparse radii, and what they are for."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot
from mlpot.settings.fit import PairTermSettings
from mlpot.terms.pair import APART, merged, radii_around
from mlpot.terms.pair_kernel import CORRELATIONS, bent

LONE = -3.0
ENDS = 0.9, 5.0


@pytest.mark.parametrize("name", CORRELATIONS)
def test_derivatives(name):
    t, step = np.linspace(-4.0, 4.0, 50), 1e-5
    _, slope, curvature = CORRELATIONS[name](t, 2)
    ahead, behind = CORRELATIONS[name](t + step, 1), CORRELATIONS[name](t - step, 1)
    np.testing.assert_allclose(slope, (ahead[0] - behind[0]) / (2 * step), atol=1e-9)
    np.testing.assert_allclose(curvature, (ahead[1] - behind[1]) / (2 * step), atol=1e-8)
    assert CORRELATIONS[name](np.zeros(1), 0)[0][0] == 1.0


def test_both_kernels_are_positive_and_fall():
    t = np.linspace(0.0, 6.0, 80)
    for k in CORRELATIONS.values():
        matrix = k(t[:, None] - t, 0)[0]
        assert np.all(np.diff(matrix[0]) < 0)
        assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_places_and_radii():
    np.testing.assert_allclose(merged(np.array([2.0, 1.0, 1.001, 2.0]), 0.01), [1.0, 2.0])
    found = radii_around(np.array([1.0, 3.0]), np.array([1.0, 2.0, 2.5]), 0.1, 3.05)
    np.testing.assert_allclose(found, [0.9, 1.1, 2.0, 2.5, 2.9])  # none at a place, none beyond the cutoff


def bend(r):
    """Energy and force of a dimer whose slope changes by 6 eV/A within 0.05 A of 1.64 A, as where electronic states cross."""
    wall, width, change = 40.0 * np.exp(-3.5 * (r - 0.9)), 0.0125, 6.0
    crossing = change * width * np.logaddexp(0.0, (1.64 - r) / width)
    force = 3.5 * wall + change / (1.0 + np.exp((r - 1.64) / width))
    return 2 * LONE + wall + crossing, force


def dimer(r):
    energy, force = bend(r)
    atoms = Atoms("C2", [[0, 0, 0], [0, 0, r]])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=[[0, 0, -force], [0, 0, force]])
    return atoms


def fitted(kernel, length_scale):
    few = [0.9, 0.97, 1.05, 1.15, 1.3, 1.5, 1.6, 1.64, 1.68, 1.8, 2.0, 2.3, 2.7, 3.5, 5.0]
    term = PairTermSettings(cutoff=8.0, cutoff_width=6.0, length_scale=length_scale, n_sparse=60, kernel=kernel)
    noises = {"energy_noise": 2e-4, "jitter": 1e-12} if kernel == "matern" else {}
    config = mlpot.FitConfig(terms=(term,), isolated_atom_energies={"C": LONE}, repulsion=False, force_noise=0.02,
                             check_labels=False, **noises)  # fmt: skip
    return mlpot.fit([dimer(r) for r in few], config)


def test_a_sharp_bend_does_not_ring():
    """Gaussians of any length are off by more than ten times as much between the same fifteen points."""
    fine = np.arange(*ENDS, 0.01)

    def error(model):
        found = [model.predict(Atoms("C2", [[0, 0, 0], [0, 0, r]])).energy for r in fine]
        return np.sqrt(np.mean((np.array(found) - bend(fine)[0]) ** 2))

    rough = fitted("matern", 1.0)
    assert error(rough) < 0.004
    assert min(error(fitted("gaussian", length)) for length in (0.15, 0.3, 0.6)) > 10 * error(rough)


def test_few_distances_are_sparse_radii(tmp_path):
    model = fitted("matern", 1.0)
    term = model.terms[0]
    wanted = bent(np.array([1.64]), term.contact(0))[0][0]
    gaps = np.sort(np.abs(term.sparse_radii[0] - wanted))[:2]
    np.testing.assert_allclose(gaps, APART, rtol=1e-6)
    model.save(tmp_path / "model.h5")
    again = mlpot.load_model(tmp_path / "model.h5")
    assert again.terms[0].kernel == "matern"
    atoms = dimer(1.61)
    assert again.predict(atoms).energy == model.predict(atoms).energy


def test_many_distances_are_not():
    rng = np.random.default_rng(0)
    frames = [dimer(r) for r in rng.uniform(*ENDS, 60)]
    term = PairTermSettings(cutoff=6.0, cutoff_width=3.0, length_scale=1.0, n_sparse=30, kernel="matern")
    model = mlpot.fit(frames, mlpot.FitConfig(terms=(term,), isolated_atom_energies={"C": LONE}, check_labels=False))
    radii = model.terms[0].sparse_radii[0]
    assert len(radii) == 30
    np.testing.assert_allclose(np.diff(radii), np.diff(radii)[0])
