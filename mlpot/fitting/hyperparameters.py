"""Noises and energy scales from the data: proposed by the marginal likelihood, selected by cross-validation.

The likelihood assumes that all residuals are independent Gaussian noise, which does not hold for the errors of a local model: for
surfaces and defects of silicon it favours an energy noise that doubles the energy errors. Its proposals are therefore compared
with the given values on left-out structures, and the best ones are then improved step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import minimize

from ..errors import FitError
from ..structures import LabelledStructure
from .accumulate import Progress
from .design_matrix import Group
from .posterior import NormalEquations, Posterior
from .prior import Prior

N_FOLDS = 4
HOPELESS = 1e30
"""Negative log-likelihood assigned to a failed fit."""
LIKELIHOOD_STEPS = 40
WIDEST = 1e3
"""Largest factor by which a noise or scale may change."""
FACTORS = (4.0, 2.0, 1.4)
"""Factors of the search by cross-validation, decreasing."""
HARM = 0.02
"""Largest relative increase allowed for one error when another decreases: energies must not improve at the expense of forces, nor
forces at the expense of energies. If labels are noisy, a small change of a noise-dominated error may be most of the model error."""
LEAST_GAIN = 1e-3
"""Smallest relative improvement for which a step is accepted."""


def judged(labels: Iterable[str]) -> list[str]:
    """Kinds of labels whose errors count: energies and forces, if available."""
    return [label for label in ("energy", "forces") if label in labels] or list(labels)


@dataclass(frozen=True)
class TermHyperparameters:
    """Noises of the labels by kind, and energy scales of the terms.

    Parameters
    ----------
    noises : dict of str to float
        Standard deviations by kind of label: "energy" and "virial" in eV/atom times sqrt(n_atoms), "forces" in eV/A.
    scales : tuple of float
        Energy scale of each term, eV.
    """

    noises: dict[str, float]
    scales: tuple[float, ...]

    def varied(self) -> dict[str, Callable[[float], TermHyperparameters]]:
        """Functions that multiply one of the numbers by a factor, by name; noises of labels without a score are fixed."""

        def noise(label: str, factor: float) -> TermHyperparameters:
            return replace(self, noises={**self.noises, label: factor * self.noises[label]})

        def scale(k: int, factor: float) -> TermHyperparameters:
            return replace(self, scales=tuple(factor * s if n == k else s for n, s in enumerate(self.scales)))

        noises = {label: partial(noise, label) for label in judged(self.noises)}
        return {**noises, **{f"term {k}": partial(scale, k) for k in range(len(self.scales))}}


@dataclass(frozen=True)
class Trial:
    """Hyperparameters and their cross-validation errors.

    Parameters
    ----------
    name : str
        Origin of the hyperparameters.
    hyperparameters : TermHyperparameters
    errors : dict of str to float
        RMS errors on left-out structures by kind of label, in the units of the noises.
    """

    name: str
    hyperparameters: TermHyperparameters
    errors: dict[str, float]

    @property
    def score(self) -> float:
        """Sum of the logarithms of the energy and force errors; lower is better."""
        return float(sum(np.log(max(self.errors[label], 1e-12)) for label in judged(self.errors)))

    def harms_nothing(self, given: Trial) -> bool:
        """Whether no error that counts exceeds the error with the given values by more than `HARM`."""
        return all(self.errors[label] <= (1 + HARM) * given.errors[label] for label in judged(self.errors))


Groups = Mapping[Group, NormalEquations]


def joined(parts: Sequence[Groups]) -> dict[Group, NormalEquations]:
    """Normal equations of several parts of the data combined."""
    whole: dict[Group, NormalEquations] = {}
    for part in parts:
        for group, equations in part.items():
            whole.setdefault(group, NormalEquations.empty(len(equations.right))).merge(equations)
    return dict(sorted(whole.items()))


@dataclass(frozen=True)
class Folds:
    """Normal equations of disjoint parts of the data, of all but each part, and of everything.

    Parameters
    ----------
    prior : Prior
    blocks_of_terms : tuple of int
        Number of blocks of each term.
    parts, others : tuple of mappings of Group to NormalEquations
    everything : mapping of Group to NormalEquations
    fixed : dict of Group to float
        Noises of config_types with noises of their own.
    """

    prior: Prior
    blocks_of_terms: tuple[int, ...]
    parts: tuple[Groups, ...]
    others: tuple[Groups, ...]
    everything: Groups
    fixed: Mapping[Group, float]

    @classmethod
    def of(
        cls, prior: Prior, blocks_of_terms: tuple[int, ...], parts: Sequence[Groups], fixed: Mapping[Group, float]
    ) -> Folds:
        """Make folds from the normal equations of each part."""
        others = tuple(joined([p for p in parts if p is not left_out]) for left_out in parts)
        return cls(prior, blocks_of_terms, tuple(parts), others, joined(parts), fixed)

    def posterior(self, groups: Groups, parameters: TermHyperparameters) -> Posterior:
        """Posterior of a fit to part of the data."""
        noises = {g: self.fixed[g] if g in self.fixed else parameters.noises[g.label] for g in groups}
        return Posterior(self.prior, groups, noises, np.repeat(parameters.scales, self.blocks_of_terms))

    def by_term(self, values: np.ndarray) -> list[float]:
        """Sum block values (n_blocks,) over the blocks of each term (n_terms,)."""
        ends = np.cumsum(self.blocks_of_terms)[:-1]
        return [float(part.sum()) for part in np.split(values, ends)]

    def trial(self, name: str, parameters: TermHyperparameters) -> Trial:
        """Cross-validate hyperparameters: each part is predicted by a fit to all others."""
        squares: dict[str, float] = {}
        counts: dict[str, int] = {}
        for part, others in zip(self.parts, self.others, strict=True):
            try:
                sums = self.posterior(others, parameters).square_sums(part)
            except FitError:  # all digits lost to round-off
                sums = dict.fromkeys(part, np.inf)
            for group, found in sums.items():
                squares[group.label] = squares.get(group.label, 0.0) + found
                counts[group.label] = counts.get(group.label, 0) + part[group].n_rows
        return Trial(name, parameters, {label: float(np.sqrt(squares[label] / counts[label])) for label in squares})


def divided(structures: Sequence[LabelledStructure], rng: np.random.Generator) -> list[list[LabelledStructure]]:
    """Divide structures at random into `N_FOLDS` parts, with every config_type in all of them.

    Raises
    ------
    FitError
        If there are too few structures.
    """
    if len(structures) < N_FOLDS:
        raise FitError(
            f"fit.tune: needs at least {N_FOLDS} structures for cross-validation; there are {len(structures)}"
        )
    shuffled = [structures[k] for k in rng.permutation(len(structures))]
    ordered = sorted(shuffled, key=lambda s: s.config_type)
    return [ordered[k::N_FOLDS] for k in range(N_FOLDS)]


def most_likely(folds: Folds, start: TermHyperparameters, fixed: Sequence[str] = ()) -> TermHyperparameters:
    """Maximise the marginal likelihood over all scales and all noises except for the `fixed` kinds of labels."""
    free = [label for label in start.noises if label not in fixed]
    first = np.log([*(start.noises[label] for label in free), *start.scales])

    def unpacked(x: np.ndarray) -> TermHyperparameters:
        values = np.exp(x).tolist()
        noises = {**start.noises, **dict(zip(free, values[: len(free)], strict=True))}
        return TermHyperparameters(noises, tuple(values[len(free) :]))

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, by_noise, by_scale = folds.posterior(folds.everything, unpacked(x)).log_likelihood
        except FitError:  # noises too small for the scales: all digits lost to round-off
            return HOPELESS, np.zeros(len(x))
        slopes = [sum(v for g, v in by_noise.items() if g.label == label and g not in folds.fixed) for label in free]
        return -value, -np.array([*slopes, *folds.by_term(by_scale)])

    bounds = [(value - np.log(WIDEST), value + np.log(WIDEST)) for value in first]
    found = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": LIKELIHOOD_STEPS})
    return unpacked(found.x)


def best_of(folds: Folds, given: TermHyperparameters, progress: Progress) -> list[Trial]:
    """Trials of the given values, of the proposals of the likelihood and of a search from the best of them; best first."""
    proposals = {"given": given, "likelihood": most_likely(folds, given)}
    if len(given.noises) > 1 and "energy" in given.noises:
        proposals["likelihood, energy noise given"] = most_likely(folds, given, ("energy",))
    trials = [folds.trial(name, parameters) for name, parameters in proposals.items()]
    best = min((t for t in trials if t.harms_nothing(trials[0])), key=lambda trial: trial.score)
    for k, factor in enumerate(FACTORS):
        best = _searched(folds, trials[0], best, factor)
        progress("hyper-parameters", k + 1, len(FACTORS))
    return [best, *(trial for trial in trials if trial is not best)]


def _searched(folds: Folds, given: Trial, best: Trial, factor: float) -> Trial:
    """Coordinate search: multiply or divide one number at a time while this improves the score."""
    for name in best.hyperparameters.varied():
        for step in (factor, 1 / factor):
            while True:
                trial = folds.trial("cross-validation", best.hyperparameters.varied()[name](step))
                if trial.score > best.score - LEAST_GAIN or not trial.harms_nothing(given):
                    break
                best = trial
    return best
