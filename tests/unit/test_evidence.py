"""Marginal likelihood and its derivatives against dense matrices; blocks from anywhere."""

import os
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from conftest import NOISES, SMALL_TERMS
from scipy.linalg import block_diag

import mlpot
from mlpot.errors import FitError
from mlpot.models import gather as gathering
from mlpot.models.design_matrix import Design, Group, noise_of
from mlpot.models.gather import blocks_of, gather
from mlpot.models.settings import FitConfig
from mlpot.processes import worker_pool
from mlpot.structures import all_labelled

OWN = {"odd": {"force_noise": 0.2}}


@pytest.fixture(scope="module")
def small(frames):
    """A model with few points, its design and its evidence; one config_type has a noise of its own."""
    config = FitConfig(terms=SMALL_TERMS, jitter=1e-6, config_type_noise=OWN, check_labels=False)
    model = mlpot.fit(frames, config)
    design = Design(model.terms, model.baseline, model.species, frozenset(OWN))
    return model, design, gather(design, all_labelled(frames), 1e-6)


def posterior(small, factor=1.0, scales=(0.7, 2.0), only=None):
    model, _, evidence = small
    noises = {
        group: noise_of(model.config, group) * (factor if only in (None, group) else 1.0) for group in evidence.groups
    }
    return evidence.posterior(noises, scales, [model.baseline.isolated_atom_energies[14]])


def dense_log_likelihood(small, frames, found):
    """log N(y; 0, K_nm K_mm^-1 K_mn + Sigma), with everything written out."""
    _, design, _ = small
    n = design.n_sparse
    rows, labels, sigma = [], [], []
    for structure in all_labelled(frames):
        for group, part in design.rows(structure).items():
            rows.append(part[:, :n])
            labels.append(part[:, n] - part[:, n + 1 :] @ found.isolated_atom_energies)
            sigma.append(np.full(len(part), found.noises[group]))
    k_nm, y, sigma = np.concatenate(rows), np.concatenate(labels), np.concatenate(sigma)
    k_mm = block_diag(
        *(
            (block + 1e-6 * np.eye(len(block))) / scale**2
            for term, scale in zip(design.unit_terms, found.scales, strict=True)
            for block in term.prior()
        )
    )
    covariance = k_nm @ np.linalg.solve(k_mm, k_nm.T) + np.diag(sigma**2)
    sign, log_determinant = np.linalg.slogdet(covariance)
    assert sign > 0
    return -0.5 * (y @ np.linalg.solve(covariance, y) + log_determinant + len(y) * np.log(2 * np.pi))


def test_likelihood_equals_the_dense_one(small, frames):
    found = posterior(small)
    assert {g.config_type for g in found.noises} == {"", "odd"}
    expected = dense_log_likelihood(small, frames, found)
    assert found.log_likelihood[0] == pytest.approx(expected, rel=1e-6)


def test_slopes_of_the_likelihood(small):
    _, by_noise, by_scale = posterior(small).log_likelihood
    h = 1e-4

    def value(**kwargs):
        return posterior(small, **kwargs).log_likelihood[0]

    for group, slope in by_noise.items():
        numerical = (value(factor=np.exp(h), only=group) - value(factor=np.exp(-h), only=group)) / (2 * h)
        assert slope == pytest.approx(numerical, rel=1e-3, abs=1e-2), group
    for k, slope in enumerate(by_scale):
        up, down = (np.array([0.7, 2.0]) * np.exp(step * (np.arange(2) == k)) for step in (h, -h))
        assert slope == pytest.approx((value(scales=up) - value(scales=down)) / (2 * h), rel=1e-3, abs=1e-2)


def test_scales_and_noises_need_no_new_rows(small, frames):
    """The same evidence with other numbers equals a fit that was told them from the beginning."""
    model, _, evidence = small
    terms = [{**settings, "energy_scale": s} for settings, s in zip(SMALL_TERMS, (0.7, 2.0), strict=True)]
    config = FitConfig(terms=terms, jitter=1e-6, **{**NOISES, "force_noise": 0.1}, check_labels=False)
    other = mlpot.fit(frames, config)
    noises = {g: {"energy": 0.002, "forces": 0.1, "virial": 0.02}[g.label] for g in evidence.groups}
    found = evidence.posterior(noises, (0.7, 2.0), [model.baseline.isolated_atom_energies[14]])
    np.testing.assert_allclose(found.factor.T @ found.factor, other.factor.T @ other.factor, rtol=1e-7, atol=1e-8)


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


def test_any_executor_gives_the_same_model(frames, monkeypatch):
    monkeypatch.setattr(gathering, "LEAST", 100)
    assert len(blocks_of(all_labelled(frames), 60)) >= 4
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


def test_the_factor_does_not_grow_with_the_data(frames):
    """Ten times the structures: the same number of numbers."""
    design = Design(mlpot.fit(frames, FitConfig(terms=SMALL_TERMS)).terms, mlpot.fit(frames).baseline, (14,))
    sizes = [
        {group: factor.rows.size for group, factor in gather(design, all_labelled(frames) * n, 1e-8).groups.items()}
        for n in (1, 10)
    ]
    assert sizes[0][Group("forces", "")] == sizes[1][Group("forces", "")] == design.n_columns**2
    assert all(size <= design.n_columns**2 for size in sizes[1].values())
