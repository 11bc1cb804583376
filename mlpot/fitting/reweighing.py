"""Noises, energy scales and zeta from covariances that are computed once (`fit.tune`, and the second step of `mlpot tune`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..settings.fit import NOISE_OF_LABEL
from ..structures import LabelledStructure
from ..terms.protocol import FittedTerm
from ..threads import single_blas_thread
from .design_matrix import noise_of
from .hyperparameters import LEAST_GAIN, Folds, TermHyperparameters, Trial, best_of, divided, most_likely
from .posterior import Posterior
from .task import FitTask

ZETAS = (2.0, 3.0, 4.0, 6.0)
FEW_POINTS = 300
"""Number of sparse points of an element used to compare values of zeta."""


class Reweighed(NamedTuple):
    """Result of `reweigh`.

    Parameters
    ----------
    task : FitTask
        The task with the optimised noises, energy scales and zeta.
    terms : tuple of FittedTerm
        The terms with the optimised energy scales and zeta.
    posterior : Posterior
        The fit with these.
    trials : list of dict
        All trials: "name", "zeta", "noises", "energy_scales", "log_likelihood", "cross_validation_rmse"; the best first.
    """

    task: FitTask
    terms: tuple[FittedTerm, ...]
    posterior: Posterior
    trials: list[dict[str, Any]]


def reweigh(task: FitTask, terms: tuple[FittedTerm, ...]) -> Reweighed:
    """Optimise zeta with a subset of the sparse points, then noises and energy scales with all of them.

    Raises
    ------
    FitError
        If there are too few structures for cross-validation.
    """
    with single_blas_thread():
        terms, rows = _with_best_zeta(task, terms)
        folds = folds_of(task, terms)
        trials = best_of(folds, given_numbers(task, folds, terms), task.progress)
        rows = [_row(folds, trial, _zeta(terms)) for trial in trials] + rows
    best = trials[0].hyperparameters
    settings = [
        s.model_copy(update={"energy_scale": scale, **({} if term.exponent is None else {"zeta": term.exponent})})
        for s, term, scale in zip(task.config.terms, terms, best.scales, strict=True)
    ]
    noises = {NOISE_OF_LABEL[label]: noise for label, noise in best.noises.items()}
    adapt = tuple(key for key in task.config.adapt or () if key not in noises)  # keep the optimised values
    config = task.config.model_copy(update={**noises, "terms": tuple(settings), "tune": False, "adapt": adapt})
    scaled = tuple(term.with_scales(s) for term, s in zip(terms, best.scales, strict=True))
    return Reweighed(replace(task, config=config), scaled, folds.posterior(folds.everything, best), rows)


def _with_best_zeta(
    task: FitTask, terms: tuple[FittedTerm, ...]
) -> tuple[tuple[FittedTerm, ...], list[dict[str, Any]]]:
    """The terms with the best exponent in cross-validation with a subset of the sparse points, and all trials."""
    rows: list[dict[str, Any]] = []
    given = _zeta(terms)
    if given is None:
        return terms, rows
    few = tuple(t.with_points(tuple(p[:: -(-len(p) // FEW_POINTS) or 1] for p in t.points)) for t in terms)
    scores = {}
    for zeta in sorted({given, *ZETAS}):
        folds = folds_of(task, _with_zeta(few, zeta))
        start = given_numbers(task, folds, terms)
        trials = [folds.trial(n, p) for n, p in (("given", start), ("likelihood", most_likely(folds, start)))]
        rows += [_row(folds, replace(trial, name=f"{trial.name}, few points"), zeta) for trial in trials]
        scores[zeta] = min(trial.score for trial in trials)
    best = min(scores, key=lambda zeta: scores[zeta] - LEAST_GAIN * (zeta == given))
    return _with_zeta(terms, best), rows


def folds_of(
    task: FitTask, terms: tuple[FittedTerm, ...], parts: Sequence[Sequence[LabelledStructure]] | None = None
) -> Folds:
    """Folds of the structures of a task: the given parts, or a random division."""
    parts = divided(task.structures, np.random.default_rng(task.config.seed)) if parts is None else parts
    design = task.design(terms)
    gathered = [task.gathered(design, part) for part in parts]
    fixed = {g: noise_of(task.config, g) for groups in gathered for g in groups if g.config_type}
    return Folds.of(design.prior, tuple(len(term.points) for term in terms), gathered, fixed)


def given_numbers(task: FitTask, folds: Folds, terms: Sequence[FittedTerm]) -> TermHyperparameters:
    """The noises of the configuration and the largest energy scale of each term."""
    general = [group for group in folds.everything if group not in folds.fixed]
    noises = {group.label: noise_of(task.config, group) for group in sorted(general)}
    return TermHyperparameters(noises, tuple(max(term.energy_scales) for term in terms))


def _row(folds: Folds, trial: Trial, zeta: float | None) -> dict[str, Any]:
    likelihood = folds.posterior(folds.everything, trial.hyperparameters).log_likelihood[0]
    return {
        "name": trial.name,
        "zeta": zeta,
        "noises": trial.hyperparameters.noises,
        "energy_scales": list(trial.hyperparameters.scales),
        "log_likelihood": float(likelihood),
        "cross_validation_rmse": trial.errors,
    }


def _zeta(terms: Sequence[FittedTerm]) -> float | None:
    """The exponent of the first term that has one."""
    return next((term.exponent for term in terms if term.exponent is not None), None)


def _with_zeta(terms: Sequence[FittedTerm], zeta: float) -> tuple[FittedTerm, ...]:
    return tuple(term.with_exponent(zeta) for term in terms)
