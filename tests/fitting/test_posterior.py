"""Least squares in whitened coordinates against dense matrices, and what the likelihood says of noises and scales."""

import os
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest
from conftest import NOISES, SMALL_TERMS
from scipy.linalg import block_diag

import mlpot
from mlpot.errors import FitError
from mlpot.fitting import accumulate as gathering
from mlpot.fitting.accumulate import blocks_of, gather
from mlpot.fitting.design_matrix import Design, Group, noise_of
from mlpot.fitting.posterior import NormalEquations, Posterior
from mlpot.processes import worker_pool
from mlpot.settings.fit import FitConfig
from mlpot.structures import all_labelled

OWN = {"odd": {"force_noise": 0.2}}
JITTER = 1e-6


@pytest.fixture(scope="module", params=["frames", "two_species_frames"])
def small(request):
    """A posterior of few points with a scale of its own for every block and a noise for every group, and its structures."""
    frames = request.getfixturevalue(request.param)
    config = FitConfig(terms=SMALL_TERMS, jitter=JITTER, config_type_noise=OWN, check_labels=False)
    model = mlpot.fit(frames, config)
    design = Design(model.terms, model.baseline, model.species, frozenset(OWN), JITTER)
    groups = gather(design, all_labelled(frames))
    scales = np.linspace(0.4, 2.5, len(design.prior.factors))
    noises = {group: noise_of(model.config, group) * (1 + 0.3 * k) for k, group in enumerate(groups)}
    return Posterior(design.prior, groups, noises, scales), design, all_labelled(frames)


class Dense:
    """Everything held at once: K_nm and K_mm in eV^2, labels, noises of rows, for the scales and noises of a posterior."""

    def __init__(self, posterior, design, structures):
        n = design.n_sparse
        energies = [design.baseline.isolated_atom_energies[z] for z in design.species]
        rows, labels, groups = [], [], []
        for structure in structures:
            for group, part in design.rows(structure).items():
                rows.append(part[:, :n])
                labels.append(part[:, n] - part[:, n + 1 :] @ energies)
                groups += [group] * len(part)
        blocks = [t.between(p, p) + design.jitter * np.eye(len(p)) for t in design.unit_terms for p in t.points]
        self.group_of = np.array([list(posterior.groups).index(group) for group in groups])
        self.block_of = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
        squares = posterior.scales[self.block_of] ** 2
        self.k_nm, self.y = np.concatenate(rows) * squares, np.concatenate(labels)
        self.k_mm = block_diag(*blocks) * squares
        self.sigma = np.array(list(posterior.noises.values()))[self.group_of]

    @property
    def precision(self):
        """K_mm + K_mn Sigma^-1 K_nm."""
        scaled = self.k_nm / self.sigma[:, None]
        return self.k_mm + scaled.T @ scaled

    @property
    def stacked(self):
        """Rows of data and of the prior, which lose no digits."""
        return np.concatenate([self.k_nm / self.sigma[:, None], np.linalg.cholesky(self.k_mm).T])

    @property
    def weights(self):
        right = np.concatenate([self.y / self.sigma, np.zeros(len(self.k_mm))])
        return np.linalg.lstsq(self.stacked, right, rcond=None)[0]

    @property
    def covariance(self):
        """Of the labels, K_nm K_mm^-1 K_mn + Sigma."""
        return self.k_nm @ np.linalg.solve(self.k_mm, self.k_nm.T) + np.diag(self.sigma**2)

    @property
    def log_likelihood(self):
        sign, log_determinant = np.linalg.slogdet(self.covariance)
        assert sign > 0
        fit = self.y @ np.linalg.solve(self.covariance, self.y)
        return -0.5 * (fit + log_determinant + len(self.y) * np.log(2 * np.pi))


@pytest.fixture(scope="module")
def dense(small):
    return Dense(*small)


def test_groups_of_labels(small):
    """Forces on every element are a group; a config_type with a noise of its own has its own."""
    posterior, design, structures = small
    expected = {
        Group(label, config_type, number)
        for config_type in ("", "odd")
        for label, numbers in (("energy", [0]), ("virial", [0]), ("forces", design.species))
        for number in numbers
    }
    assert set(posterior.groups) == expected
    assert sum(e.n_rows for e in posterior.groups.values()) == sum(s.n_rows for s in structures)


def test_weights_and_factor(small, dense):
    posterior, _, _ = small
    ours, theirs = dense.k_nm @ posterior.weights, dense.k_nm @ dense.weights
    np.testing.assert_allclose(
        ours / dense.sigma, theirs / dense.sigma, atol=1e-5 * np.abs(dense.y / dense.sigma).max()
    )
    found, expected = posterior.factor.T @ posterior.factor, dense.precision
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    assert np.all(np.tril(posterior.factor, -1) == 0)


def test_residuals_of_groups(small, dense):
    posterior, _, _ = small
    residuals = dense.y - dense.k_nm @ dense.weights
    found = posterior.square_sums()
    for k, group in enumerate(posterior.groups):
        assert found[group] == pytest.approx(np.sum(residuals[dense.group_of == k] ** 2), rel=1e-4)
        own = dense.y[dense.group_of == k]
        assert posterior.groups[group].square == pytest.approx(own @ own)
        assert posterior.groups[group].n_rows == len(own)


def test_leverage_and_directions_that_the_data_determine(small, dense):
    posterior, _, _ = small
    q, known = np.linalg.qr(dense.stacked)[0], len(dense.y)
    leverages = np.sum(q[:known] ** 2, axis=1)
    for k, group in enumerate(posterior.groups):
        assert posterior.leverage(group) == pytest.approx(leverages[dense.group_of == k].sum(), rel=1e-4)
    left = np.sum(q[known:] ** 2, axis=1)
    expected = [np.sum(1 - left[dense.block_of == b]) for b in range(len(posterior.scales))]
    np.testing.assert_allclose(posterior.determined, expected, rtol=1e-4, atol=1e-6)
    assert posterior.determined.sum() == pytest.approx(sum(map(posterior.leverage, posterior.groups)), rel=1e-8)


def test_sizes_are_those_of_the_prior(small, dense):
    """|u|^2 / s^2 = w K_mm w, block by block."""
    posterior, _, _ = small
    weights = posterior.weights
    for b, (size, scale) in enumerate(zip(posterior.sizes, posterior.scales, strict=True)):
        own = dense.block_of == b
        expected = weights[own] @ dense.k_mm[np.ix_(own, own)] @ weights[own]
        assert size / scale**2 == pytest.approx(expected, rel=1e-6)


def test_likelihood(small, dense):
    assert small[0].log_likelihood[0] == pytest.approx(dense.log_likelihood, rel=1e-6)


@pytest.mark.slow
def test_slopes_of_the_likelihood(small):
    """Against differences of the dense likelihood."""
    posterior, design, structures = small
    _, by_noise, by_scale = posterior.log_likelihood
    h = 1e-3

    def slope(**changes):
        up, down = (Dense(replace(posterior, **c), design, structures).log_likelihood for c in changes["of"])
        return (up - down) / (2 * h)

    for group, found in by_noise.items():
        near = [{"noises": {**posterior.noises, group: posterior.noises[group] * np.exp(s)}} for s in (h, -h)]
        assert found == pytest.approx(slope(of=near), rel=1e-3, abs=2e-2), group
    for b, found in enumerate(by_scale):
        only = np.arange(len(by_scale)) == b
        near = [{"scales": posterior.scales * np.exp(s * only)} for s in (h, -h)]
        assert found == pytest.approx(slope(of=near), rel=1e-3, abs=2e-2), b


def test_blocks_of_any_size_give_the_same_equations():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(500, 31)), rng.normal(size=500)
    found = []
    for size in (1, 7, 500):
        equations = NormalEquations.empty(31)
        for begin in range(0, 500, size):
            equations.absorb(rows[begin : begin + size], labels[begin : begin + size])
        found.append(equations)
    merged = NormalEquations.empty(31)
    for part in (slice(0, 7), slice(7, 300), slice(300, 500)):
        other = NormalEquations.empty(31)
        other.absorb(rows[part], labels[part])
        merged.merge(other)
    u = rng.normal(size=31)
    for equations in (*found, merged):
        assert equations.n_rows == 500
        np.testing.assert_allclose(equations.gram, np.tril(rows.T @ rows), atol=1e-10)
        np.testing.assert_allclose(equations.right, rows.T @ labels, atol=1e-10)
        assert equations.square_sum(u) == pytest.approx(np.sum((labels - rows @ u) ** 2))


def test_scales_and_noises_need_no_new_rows(frames):
    """The same normal equations with other numbers equal a fit that was told them from the beginning."""
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, jitter=JITTER, check_labels=False))
    design = Design(model.terms, model.baseline, model.species, jitter=JITTER)
    groups = gather(design, all_labelled(frames))
    terms = [{**settings, "energy_scale": s} for settings, s in zip(SMALL_TERMS, (0.7, 2.0), strict=True)]
    config = FitConfig(terms=terms, jitter=JITTER, **{**NOISES, "force_noise": 0.1}, check_labels=False)
    other = mlpot.fit(frames, config)
    noises = {g: {"energy": 0.002, "forces": 0.1, "virial": 0.02}[g.label] for g in groups}
    found = Posterior(design.prior, groups, noises, np.array([0.7, 2.0]))
    np.testing.assert_allclose(found.factor.T @ found.factor, other.factor.T @ other.factor, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.weights, other.weights, rtol=1e-9, atol=1e-9 * np.abs(other.weights).max())


def test_noises_that_are_too_small_are_a_clear_error(small):
    posterior, _, _ = small
    tiny = replace(posterior, noises=dict.fromkeys(posterior.noises, 1e-170))
    with pytest.raises(FitError, match=r"finite|increase energy_noise"):
        _ = tiny.weights


class Backwards(Executor):
    """Threads that finish in another order than they were asked."""

    def __init__(self):
        self._waiting, self._threads = [], []

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        self._waiting.append((future, function, args, kwargs))
        if len(self._waiting) == 2:
            self._run()
        else:
            timer = threading.Timer(0.2, self._run)
            self._threads.append(timer)
            timer.start()
        return future

    def _run(self):
        waiting, self._waiting = self._waiting, []
        for future, function, args, kwargs in reversed(waiting):
            future.set_result(function(*args, **kwargs))


@pytest.mark.slow
def test_any_executor_gives_the_same_model(frames, monkeypatch):
    monkeypatch.setattr(gathering, "ROWS_AT_ONCE", 200)
    assert len(blocks_of(all_labelled(frames))) >= 4
    config = FitConfig(terms=SMALL_TERMS)
    models = [mlpot.fit(frames, config)]
    with ThreadPoolExecutor(3) as threads, worker_pool(2) as processes:
        models += [mlpot.fit(frames, config, executor=e) for e in (threads, processes, Backwards())]
    for other in models[1:]:
        np.testing.assert_array_equal(models[0].weights, other.weights)
        np.testing.assert_array_equal(models[0].factor, other.factor)
        assert other.report.left_out == models[0].report.left_out


def test_a_worker_that_dies_is_a_clear_error(frames):
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(BrokenProcessPool):
            pool.submit(os._exit, 1).result()
        with pytest.raises(FitError, match="a worker died"):
            mlpot.fit(frames, FitConfig(terms=SMALL_TERMS), executor=pool)


def test_the_equations_do_not_grow_with_the_data(frames):
    """Ten times the structures: the same number of numbers."""
    model = mlpot.fit(frames, FitConfig(terms=SMALL_TERMS, check_labels=False))
    design = Design(model.terms, model.baseline, (14,))
    for n in (1, 10):
        groups = gather(design, all_labelled(frames) * n)
        assert {equations.gram.size for equations in groups.values()} == {design.n_sparse**2}
        assert groups[Group("forces", "", 14)].n_rows == n * 8 * 96
