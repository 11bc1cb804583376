"""Noises, energy scales and zeta of a model from its data; what `fit.tune` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ..structures import LabelledStructure
from ..threads import single_blas_thread
from .baseline import Baseline
from .design_matrix import Design, noise_of
from .evidence import Evidence
from .gather import Progress, gather
from .hyperparameters import LEAST_GAIN, Folds, Hyperparameters, Trial, best_of, divided, most_likely
from .settings import FitConfig, SoapTermSettings
from .soap_term import SoapTerm
from .terms import FittedTerm

ZETAS = (2.0, 3.0, 4.0, 6.0)
FEW_POINTS = 300
"""Sparse points of an element with which values of zeta are compared."""
NOISE_OF_LABEL = {"energy": "energy_noise", "forces": "force_noise", "virial": "virial_noise"}


@dataclass(frozen=True)
class Tuned:
    """What came of tuning.

    Parameters
    ----------
    config : FitConfig
        With the noises, energy scales and zeta found.
    terms : tuple of FittedTerm
        Likewise.
    evidence : Evidence
        All data, ready for a fit.
    trials : list of dict
        What was tried: "name", "zeta", "noises", "energy_scales", "log_likelihood", "cross_validation_rmse"; the best first.
    """

    config: FitConfig
    terms: tuple[FittedTerm, ...]
    evidence: Evidence
    trials: list[dict[str, Any]]


@dataclass(frozen=True)
class Tuning:
    """The data and the model whose numbers are looked for.

    Parameters
    ----------
    structures : list of LabelledStructure
    terms : tuple of FittedTerm
        With sparse points and the energy scales to begin with.
    baseline : Baseline
    species : tuple of int
    config : FitConfig
        Resolved.
    progress : callable
    executor : concurrent.futures.Executor or None
    """

    structures: Sequence[LabelledStructure]
    terms: tuple[FittedTerm, ...]
    baseline: Baseline
    species: tuple[int, ...]
    config: FitConfig
    progress: Progress
    executor: Executor | None

    def run(self) -> Tuned:
        """Zeta first, with few sparse points, then noises and energy scales with all."""
        with single_blas_thread():
            rows: list[dict[str, Any]] = []
            terms = self._with_best_zeta(rows)
            folds = self._folds(terms)
            trials = best_of(folds, self._given(folds), self.progress)
        best = trials[0].hyperparameters
        zeta = _zeta(terms)
        settings = [
            s.model_copy(update={"energy_scale": scale, **({"zeta": zeta} if isinstance(s, SoapTermSettings) else {})})
            for s, scale in zip(self.config.terms, best.scales, strict=True)
        ]
        found = {NOISE_OF_LABEL[label]: noise for label, noise in best.noises.items()}
        return Tuned(
            config=self.config.model_copy(update={**found, "terms": tuple(settings), "tune": False}),
            terms=tuple(_replaced(term, energy_scale=s) for term, s in zip(terms, best.scales, strict=True)),
            evidence=folds.everything,
            trials=[self._row(folds, trial, zeta) for trial in trials] + rows,
        )

    def _with_best_zeta(self, rows: list[dict[str, Any]]) -> tuple[FittedTerm, ...]:
        """The terms with the exponent that cross-validation finds best for a part of the sparse points."""
        given = _zeta(self.terms)
        if given is None:
            return self.terms
        few = tuple(t.with_points(tuple(p[:: -(-len(p) // FEW_POINTS) or 1] for p in t.points)) for t in self.terms)
        scores = {}
        for zeta in sorted({given, *ZETAS}):
            folds = self._folds(_with_zeta(few, zeta))
            likely = most_likely(folds, self._given(folds))
            trials = [folds.trial(n, p) for n, p in (("given", self._given(folds)), ("likelihood", likely))]
            rows += [{**self._row(folds, trial, zeta), "name": f"{trial.name}, few points"} for trial in trials]
            scores[zeta] = min(trial.score for trial in trials)
        best = min(scores, key=lambda zeta: scores[zeta] - LEAST_GAIN * (zeta == given))
        return _with_zeta(self.terms, best)

    def _folds(self, terms: tuple[FittedTerm, ...]) -> Folds:
        design = Design(terms, self.baseline, self.species, frozenset(self.config.config_type_noise))
        parts = divided(self.structures, np.random.default_rng(self.config.seed))
        evidence = [gather(design, part, self.config.jitter, self.progress, self.executor) for part in parts]
        fixed = {g: noise_of(self.config, g) for e in evidence for g in e.groups if g.config_type}
        return Folds.of(evidence, [self.baseline.isolated_atom_energies[z] for z in self.species], fixed)

    def _given(self, folds: Folds) -> Hyperparameters:
        general = [group for group in folds.everything.groups if group not in folds.fixed]
        noises = {group.label: noise_of(self.config, group) for group in sorted(general)}
        return Hyperparameters(noises, tuple(term.energy_scale for term in self.terms))

    def _row(self, folds: Folds, trial: Trial, zeta: float | None) -> dict[str, Any]:
        likelihood = folds.posterior(folds.everything, trial.hyperparameters).log_likelihood()[0]
        return {
            "name": trial.name,
            "zeta": zeta,
            "noises": trial.hyperparameters.noises,
            "energy_scales": list(trial.hyperparameters.scales),
            "log_likelihood": float(likelihood),
            "cross_validation_rmse": trial.errors,
        }


def _replaced(term: FittedTerm, **changes: Any) -> FittedTerm:
    return cast(FittedTerm, replace(cast(Any, term), **changes))


def _zeta(terms: Sequence[FittedTerm]) -> float | None:
    """The exponent of the first many-body term, if there is any."""
    return next((term.zeta for term in terms if isinstance(term, SoapTerm)), None)


def _with_zeta(terms: Sequence[FittedTerm], zeta: float) -> tuple[FittedTerm, ...]:
    return tuple(_replaced(term, zeta=zeta) if isinstance(term, SoapTerm) else term for term in terms)
