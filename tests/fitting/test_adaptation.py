"""Noises and energy scales by the fixed point of the evidence: against brute-force maximisation, on data whose numbers are known."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, make_frames
from scipy.optimize import minimize

import mlpot
from mlpot.fitting import adaptation
from mlpot.fitting.adaptation import BEYOND, BLUNTEST, LARGEST, SHARPEST, SMALLEST, Freedom, Hyperparameters, adapted
from mlpot.fitting.design_matrix import Group
from mlpot.fitting.posterior import NormalEquations
from mlpot.fitting.prior import Prior
from mlpot.settings.fit import FitConfig

ENERGY, ON_C, ON_SI = Group("energy", ""), Group("forces", "", 6), Group("forces", "", 14)
SIZES = (30, 50)
TRUE = Hyperparameters({ENERGY: 0.05, ON_C: 0.1, ON_SI: 0.4}, np.array([0.3, 5.0]))
START = Hyperparameters({ENERGY: 0.2, ON_C: 0.2, ON_SI: 0.2}, np.array([1.0, 1.0]))
EVERYTHING = Freedom(START, frozenset(START.noises), np.array([True, True]))


class Data:
    """Rows of two blocks whose coefficients are drawn from their priors, and labels with noise."""

    def __init__(self, n_rows, seed=0, true=TRUE):
        rng = np.random.default_rng(seed)
        u = rng.standard_normal(sum(SIZES)) * np.repeat(true.scales, SIZES)
        self.rows = {group: rng.standard_normal((n, len(u))) for group, n in n_rows.items()}
        self.labels = {
            group: rows @ u + true.noises[group] * rng.standard_normal(len(rows)) for group, rows in self.rows.items()
        }
        self.prior = Prior(tuple(map(np.eye, SIZES)))
        self.groups = {}
        for group, rows in self.rows.items():
            equations = NormalEquations.empty(len(u))
            equations.absorb(rows, self.labels[group])
            self.groups[group] = equations

    def posterior(self, parameters):
        return parameters.posterior(self.prior, self.groups)

    def surprise(self, parameters):
        """- log N(y; 0, Z S^2 Z' + Sigma), everything written out."""
        z, y = np.concatenate(list(self.rows.values())), np.concatenate(list(self.labels.values()))
        sigma = np.concatenate([np.full(len(rows), parameters.noises[group]) for group, rows in self.rows.items()])
        scaled = z * np.repeat(parameters.scales, SIZES)
        covariance = scaled @ scaled.T + np.diag(sigma**2)
        return 0.5 * (y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(covariance)[1])


@pytest.fixture
def without_priors(monkeypatch):
    """The evidence alone, to convergence."""
    monkeypatch.setattr(adaptation, "SCALE_COUNTS", 0.0)
    monkeypatch.setattr(adaptation, "NOISE_COUNTS", 0.0)
    monkeypatch.setattr(adaptation, "CLOSE", 1 + 1e-7)
    monkeypatch.setattr(adaptation, "SHARPEST", 1e3)


def test_what_the_data_were_made_with_is_found():
    """Within four standard errors: sqrt(1 / 2n) of a standard deviation of n independent numbers."""
    data = Data({ENERGY: 400, ON_C: 1500, ON_SI: 3000})
    posterior, found = adapted(data.posterior(START), EVERYTHING)
    for group, noise in TRUE.noises.items():
        assert abs(np.log(found.noises[group] / noise)) < 4 / np.sqrt(2 * data.groups[group].n_rows) + 0.02
    for scale, true, n in zip(found.scales, TRUE.scales, SIZES, strict=True):
        assert abs(np.log(scale / true)) < 4 / np.sqrt(2 * n)
    assert dict(posterior.noises) == found.noises
    np.testing.assert_array_equal(posterior.scales, found.scales)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_maximises_the_dense_marginal_likelihood(without_priors, seed):
    """From few rows, where directions that the data leave open count."""
    data = Data({ENERGY: 50, ON_C: 60, ON_SI: 90}, seed)
    _, found = adapted(data.posterior(START), EVERYTHING, 2000)

    def unpacked(x):
        return Hyperparameters(dict(zip(START.noises, np.exp(x[:3]), strict=True)), np.exp(x[3:]))

    first = np.log([*found.noises.values(), *found.scales]) + 0.3
    best = unpacked(minimize(lambda x: data.surprise(unpacked(x)), first, method="BFGS").x)
    assert data.surprise(found) <= data.surprise(best) + 1e-3
    for group in START.noises:
        assert found.noises[group] == pytest.approx(best.noises[group], rel=0.02)
    np.testing.assert_allclose(found.scales, best.scales, rtol=0.02)


def test_the_likelihood_is_level_there(without_priors):
    data = Data({ENERGY: 100, ON_C: 100, ON_SI: 200})
    posterior, _ = adapted(data.posterior(START), EVERYTHING, 500)
    _, by_noise, by_scale = posterior.log_likelihood
    np.testing.assert_allclose(list(by_noise.values()), 0.0, atol=1e-2)
    np.testing.assert_allclose(by_scale, 0.0, atol=1e-2)


def test_little_data_leave_the_priors():
    """Three rows: no noise and no scale goes far from where it was."""
    data = Data({ENERGY: 1, ON_C: 1, ON_SI: 1})
    _, found = adapted(data.posterior(START), EVERYTHING)
    assert all(found.noises[group] == pytest.approx(0.2, rel=0.2) for group in START.noises)
    assert np.all(found.scales < 10)


def test_what_is_given_stays():
    data = Data({ENERGY: 100, ON_C: 100, ON_SI: 200})
    freedom = Freedom(START, frozenset({ON_C}), np.array([False, True]))
    _, found = adapted(data.posterior(START), freedom)
    assert found.noises[ENERGY] == found.noises[ON_SI] == 0.2 != found.noises[ON_C]
    assert found.scales[0] == 1.0 != found.scales[1]
    nothing = Freedom(START, frozenset(), np.array([False, False]))
    start = data.posterior(START)
    posterior, same = adapted(start, nothing)
    assert posterior is start and same.factor_to(START) == 1.0


@pytest.mark.parametrize(("times", "expected"), [(0.5, 0.5), (2.0, 1.0), (2 * BEYOND, 2.0), (1e3, 1e3 / BEYOND)])
def test_noises_of_energies_fall_freely_and_rise_for_what_is_far_off(times, expected):
    """At and up to BEYOND times the given noise they stay, then they are a part of what is found."""
    data = Data({ENERGY: 3000, ON_C: 1000}, true=replace(TRUE, noises={ENERGY: 0.2 * times, ON_C: 0.2}))
    freedom = replace(EVERYTHING, start=Hyperparameters({ENERGY: 0.2, ON_C: 0.2}, START.scales))
    _, found = adapted(data.posterior(START), freedom, 30)
    assert found.noises[ENERGY] == pytest.approx(0.2 * expected, rel=0.05)


def test_bounds():
    data = Data(
        {ON_C: 1000, ON_SI: 1000}, true=replace(TRUE, noises={ON_C: 0.0, ON_SI: 1e3}, scales=np.array([1e9, 1e9]))
    )
    start = Hyperparameters({ON_C: 0.2, ON_SI: 0.2}, START.scales)
    _, found = adapted(data.posterior(start), replace(EVERYTHING, start=start), 100)
    assert found.noises[ON_C] >= 0.2 / SHARPEST * (1 - 1e-12) and found.noises[ON_SI] <= 0.2 * BLUNTEST * (1 + 1e-12)
    np.testing.assert_allclose(found.scales, LARGEST)
    small = Data({ON_C: 1000, ON_SI: 1000}, true=replace(TRUE, scales=np.array([1e-9, 1e-9])))
    _, found = adapted(small.posterior(start), replace(EVERYTHING, start=start), 100)
    assert np.all(found.scales >= SMALLEST) and np.all(found.scales < 0.5)


def noisy_frames(on_c, on_si):
    rng = np.random.default_rng(5)
    frames = make_frames(14, numbers=(6, 14), seed=1)
    for atoms in frames:
        sigma = np.where(atoms.numbers == 6, on_c, on_si)[:, None]
        forces = atoms.get_forces() + sigma * rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=forces)
    return frames


@pytest.fixture(scope="module")
def two_noises():
    return noisy_frames(0.05, 0.3)


def test_every_element_has_its_own_noise(two_noises):
    config = FitConfig(terms=SMALL_TERMS, check_labels=False)
    model, again = mlpot.fit(two_noises, config), mlpot.fit(two_noises, config)
    assert model.noises.forces[6] == pytest.approx(0.05, rel=0.15)
    assert model.noises.forces[14] == pytest.approx(0.3, rel=0.1)
    np.testing.assert_array_equal(model.weights, again.weights)
    assert model.noises == again.noises and model.calibration == again.calibration
    p = model.predict(two_noises[0], True)
    carbon = two_noises[0].numbers == 6
    assert p.forces_stated_std[~carbon].mean() > 2.5 * p.forces_stated_std[carbon].mean()


def test_a_growing_fit_finds_the_same(two_noises):
    """Label by label, from where it was: the noises and scales of a fit to all at once, and its model."""
    terms = mlpot.fit(two_noises, FitConfig(terms=SMALL_TERMS, check_labels=False)).terms
    fit = mlpot.Fit(FitConfig(terms=SMALL_TERMS), (6, 14))
    fit.update(two_noises[:1], {(1, z): f for z, f in zip((6, 14), terms[1].sparse_features, strict=True)})
    for atoms in two_noises[1:]:
        fit.update([atoms])
    assert fit.model.noises.forces[6] == pytest.approx(0.05, rel=0.15)
    assert fit.model.noises.forces[14] == pytest.approx(0.3, rel=0.1)
    for ours, theirs in zip(fit.model.terms, terms, strict=True):
        np.testing.assert_allclose(np.log(np.divide(ours.energy_scales, theirs.energy_scales)), 0.0, atol=0.5)
    assert fit.model.terms[1].energy_scales == tuple(fit.levels.scales[3:])


def test_configured_numbers_are_left_alone(two_noises):
    terms = [SMALL_TERMS[0], {**SMALL_TERMS[1], "energy_scale": 0.7}]
    model = mlpot.fit(two_noises, FitConfig(terms=terms, check_labels=False, **NOISES))
    assert model.noises.forces == {6: 0.05, 14: 0.05} and model.noises.energy == NOISES["energy_noise"]
    assert model.terms[1].energy_scales == (0.7, 0.7) and len(set(model.terms[0].energy_scales)) == 3
    table = {**NOISES, "force_noise": {"C": 0.04, "Si": 0.25}}
    assert mlpot.fit(two_noises, FitConfig(terms=terms, check_labels=False, **table)).noises.forces == {
        6: 0.04,
        14: 0.25,
    }
    follows = FitConfig(terms=terms, check_labels=False, adapt=["force_noise"], **table)
    assert mlpot.fit(two_noises, follows).noises.forces[14] == pytest.approx(0.3, rel=0.1)
