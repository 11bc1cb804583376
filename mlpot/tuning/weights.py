"""The second step: noises, energy scales and numbers of sparse points of a finalist, from covariances that are computed once.

The normal equations of every part of the data are stored; other noises or scales only weigh them differently, and the first n sparse
points are the leading n rows and columns of everything, because the coordinates are whitened by triangular factors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FitError
from ..fitting.adaptation import Freedom, Hyperparameters, adapted
from ..fitting.batch import make_baseline, make_terms, open_blocks
from ..fitting.design_matrix import Group as LabelGroup
from ..fitting.hyperparameters import Folds, TermHyperparameters, best_of, judged
from ..fitting.noises import left_open
from ..fitting.posterior import NormalEquations
from ..fitting.prior import Prior
from ..fitting.reweighing import folds_of, given_numbers
from ..fitting.task import FitTask
from ..settings.fit import NOISE_OF_LABEL
from ..structures import LabelledStructure
from ..terms.protocol import FittedTerm
from ..threads import single_blas_thread
from .cost import microseconds_per_atom, timed_structures
from .journal import Outcome
from .left_out import typical
from .material import Group
from .space import Space, Values
from .trials import resolved

FRACTIONS = (1.0, 0.5, 0.25)
"""Parts of the sparse points that are compared."""
CLEAR = 0.05
"""Gain in the sum of the logarithms of the errors from which on fixed noises and scales replace those that a fit adapts."""
FEWEST_POINTS = 50
"""Smallest number of sparse points of an element that is tried."""


@dataclass(frozen=True)
class Numbers:
    """Noises and energy scales of a fit, and the settings by which a fit finds them again.

    Parameters
    ----------
    hyperparameters : Hyperparameters
    fit : dict
        Settings of [fit]; empty where the fit is to adapt them.
    scales : tuple of float or None
        `energy_scale` of each term; None leaves them to the fit.
    """

    hyperparameters: Hyperparameters
    fit: dict[str, float]
    scales: tuple[float, ...] | None

    def errors(self, folds: Folds) -> dict[str, float]:
        """Typical errors of the parts by kind of label, each the root mean square by the fit to all others, units as noises."""
        found: dict[str, list[float]] = {}
        for part, others in zip(folds.parts, folds.others, strict=True):
            try:
                sums = self.hyperparameters.posterior(folds.prior, others).square_sums(part)
            except FitError:  # all digits lost to round-off
                sums = dict.fromkeys(part, np.inf)
            for label in {group.label for group in part}:
                own = [group for group in part if group.label == label]
                n_rows = sum(part[group].n_rows for group in own)
                found.setdefault(label, []).append(float(np.sqrt(sum(sums[group] for group in own) / n_rows)))
        return {label: typical(errors) for label, errors in found.items()}


@dataclass(frozen=True)
class Reweighing:
    """Evaluation of finalists.

    Parameters
    ----------
    space : Space
    parts : sequence of lists of LabelledStructure
        Whole groups, each predicted by the fit to all others.
    always : sequence of LabelledStructure
        Isolated atoms, which are in every fit.
    species : tuple of int
    seed : int
    """

    space: Space
    parts: Sequence[Group]
    always: Sequence[LabelledStructure]
    species: tuple[int, ...]
    seed: int = 0

    def __call__(self, values: Values) -> Outcome:
        """The best noises and scales for settings, and errors and cost with all, half and a quarter of the sparse points.

        `details["candidates"]` has a table for each: settings of [fit], `energy_scales` and the fraction of the points.
        """
        started = time.process_time()
        structures = [*self.always, *(s for part in self.parts for s in part)]
        config = resolved(self.space.config({**values, **self.most_points()}), self.species)
        task = FitTask(structures, self.species, make_baseline(config, structures, self.species), config)
        with single_blas_thread():
            terms = _shuffled(make_terms(task), self.seed)
            folds = folds_of(task, terms, [*self.parts, self.always])
            n = len(self.parts)
            folds = replace(folds, parts=folds.parts[:n], others=folds.others[:n])  # isolated atoms are in every fit
            numbers = self._best_numbers(task, terms, folds)
            found = [self._candidate(task, terms, folds, numbers, part) for part in _fractions(terms)]
        first = found[0]
        seconds = time.process_time() - started
        return Outcome(first["forces"], first["energies"], first["cost"], seconds, 1, None, {"candidates": found})

    def most_points(self) -> Values:
        """Largest numbers of sparse points in the space: smaller ones are parts of these."""
        return {str(p.path): max(p.ends()) for p in self.space.parameters if p.path.key == "n_sparse"}

    def _best_numbers(self, task: FitTask, terms: tuple[FittedTerm, ...], folds: Folds) -> Numbers:
        """The numbers that the evidence adapts, or the result of a search if its errors on left-out parts are smaller.

        Where the space has ranges for noises, the numbers are within these.
        """
        start = task.hyperparameters(terms, folds.everything)
        freedom = Freedom(start, left_open(task.config, folds.everything), open_blocks(task.config, terms))
        evidence = Numbers(adapted(start.posterior(folds.prior, folds.everything), freedom)[1], {}, None)
        trials = best_of(folds, self._bounded(given_numbers(task, folds, terms)), task.progress)
        searched = self._fixed(folds, self._bounded(trials[0].hyperparameters))
        if any(p.path.key in NOISE_OF_LABEL.values() for p in self.space.parameters):
            return searched
        return searched if _score(searched.errors(folds)) < _score(evidence.errors(folds)) - CLEAR else evidence

    def _bounded(self, numbers: TermHyperparameters) -> TermHyperparameters:
        """Noises within the ranges of the space."""
        noises = dict(numbers.noises)
        for p in self.space.parameters:
            for label, key in NOISE_OF_LABEL.items():
                if p.path.key == key and label in noises:
                    noises[label] = float(np.clip(noises[label], min(p.ends()), max(p.ends())))
        return replace(numbers, noises=noises)

    @staticmethod
    def _fixed(folds: Folds, numbers: TermHyperparameters) -> Numbers:
        noises = {g: folds.fixed[g] if g in folds.fixed else numbers.noises[g.label] for g in folds.everything}
        scales = np.repeat(numbers.scales, folds.blocks_of_terms)
        fit = {NOISE_OF_LABEL[label]: float(f"{noise:.4g}") for label, noise in numbers.noises.items()}
        return Numbers(Hyperparameters(noises, scales), fit, tuple(float(f"{s:.4g}") for s in numbers.scales))

    def _candidate(
        self, task: FitTask, terms: tuple[FittedTerm, ...], folds: Folds, numbers: Numbers, fraction: float
    ) -> dict[str, Any]:
        """Errors and cost with a fraction of the sparse points."""
        counts = [_count(len(p), fraction) if t.is_many_body else len(p) for t in terms for p in t.points]
        part, rest = leading(folds, counts), iter(counts)
        kept = tuple(t.with_points(tuple(p[: next(rest)] for p in t.points)) for t in terms)
        errors = numbers.errors(part)
        model = task.model(numbers.hyperparameters.posterior(part.prior, part.everything), kept)
        timed = timed_structures([s for p in self.parts for s in p])
        return {
            "fraction": fraction,
            "forces": errors.get("forces"),
            "energies": errors.get("energy"),
            "cost": microseconds_per_atom(model, timed),
            "n_sparse": [max(map(len, t.points)) if t.is_many_body else None for t in kept],
            "fit": numbers.fit,
            "energy_scales": None if numbers.scales is None else list(numbers.scales),
        }


def _score(errors: Mapping[str, float]) -> float:
    return float(sum(np.log(max(errors[label], 1e-12)) for label in judged(errors)))


def _count(n: int, fraction: float) -> int:
    return n if fraction == 1.0 else min(n, max(round(fraction * n), FEWEST_POINTS))


def _fractions(terms: Sequence[FittedTerm]) -> list[float]:
    most = max((len(p) for t in terms if t.is_many_body for p in t.points), default=0)
    return [f for f in FRACTIONS if f == 1.0 or f * most >= FEWEST_POINTS]


def _shuffled(terms: Sequence[FittedTerm], seed: int) -> tuple[FittedTerm, ...]:
    """Many-body terms with their points in random order, so that the first n are a fair choice."""
    rng = np.random.default_rng([seed, 4])
    return tuple(t.with_points(tuple(rng.permutation(p) for p in t.points)) if t.is_many_body else t for t in terms)


def leading(folds: Folds, counts: Sequence[int]) -> Folds:
    """Folds of a fit with only the first points of every block; nothing is computed again."""
    columns = np.concatenate([np.arange(s.start, s.start + n) for s, n in zip(folds.prior.slices, counts, strict=True)])

    def part(groups: Mapping[LabelGroup, NormalEquations]) -> dict[LabelGroup, NormalEquations]:
        return {
            group: NormalEquations(
                np.asfortranarray(e.gram[np.ix_(columns, columns)]), e.right[columns], e.square, e.n_rows
            )
            for group, e in groups.items()
        }

    if len(columns) == folds.prior.n_columns:
        return folds
    prior = Prior(tuple(np.ascontiguousarray(f[:n, :n]) for f, n in zip(folds.prior.factors, counts, strict=True)))
    return replace(
        folds,
        prior=prior,
        parts=tuple(map(part, folds.parts)),
        others=tuple(map(part, folds.others)),
        everything=part(folds.everything),
    )
