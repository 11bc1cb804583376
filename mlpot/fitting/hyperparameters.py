"""Noises and energy scales from the data: proposed by the marginal likelihood, judged by cross-validation.

The likelihood takes all residuals for independent Gaussian noise, which the errors of a local model are not: on surfaces and
defects of silicon it asks for an energy noise that doubles the error of energies. So what it proposes must prove itself on
structures that were left out, against what was given, and is then improved there step by step.
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
"""Minus the logarithm of a likelihood that nothing is worth."""
LIKELIHOOD_STEPS = 40
WIDEST = 1e3
"""A noise or scale may change by so large a factor."""
FACTORS = (4.0, 2.0, 1.4)
"""Steps of the search by cross-validation, ever smaller."""
HARM = 0.02
"""Energies must not be bought with forces, nor forces with energies: where labels are noisy, a small part of an error that
noise dominates may be most of what the model adds."""
LEAST_GAIN = 1e-3
"""Part of the errors that a step must take away."""


def judged(labels: Iterable[str]) -> list[str]:
    """Labels whose errors count: energies and forces where there are any."""
    return [label for label in ("energy", "forces") if label in labels] or list(labels)


@dataclass(frozen=True)
class TermHyperparameters:
    """Standard deviations of the labels, by kind, and of the terms.

    Parameters
    ----------
    noises : dict of str to float
        By kind of label: "energy" and "virial" in eV/atom times sqrt(n_atoms), "forces" in eV/A.
    scales : tuple of float
        Energy scale of each term, eV.
    """

    noises: dict[str, float]
    scales: tuple[float, ...]

    def varied(self) -> dict[str, Callable[[float], TermHyperparameters]]:
        """What multiplies one of the numbers by a factor, by its name; noises of labels that no score looks at stay."""

        def noise(label: str, factor: float) -> TermHyperparameters:
            return replace(self, noises={**self.noises, label: factor * self.noises[label]})

        def scale(k: int, factor: float) -> TermHyperparameters:
            return replace(self, scales=tuple(factor * s if n == k else s for n, s in enumerate(self.scales)))

        noises = {label: partial(noise, label) for label in judged(self.noises)}
        return {**noises, **{f"term {k}": partial(scale, k) for k in range(len(self.scales))}}


@dataclass(frozen=True)
class Trial:
    """What a choice of hyper-parameters is worth.

    Parameters
    ----------
    name : str
        Where they come from.
    hyperparameters : TermHyperparameters
    errors : dict of str to float
        Root mean square errors on left-out structures by kind of label, in the units of the noises.
    """

    name: str
    hyperparameters: TermHyperparameters
    errors: dict[str, float]

    @property
    def score(self) -> float:
        """Sum of the logarithms of the errors of energies and forces; less is better."""
        return float(sum(np.log(max(self.errors[label], 1e-12)) for label in judged(self.errors)))

    def harms_nothing(self, given: Trial) -> bool:
        """Whether no error that counts is larger than with what was given, but for `HARM`."""
        return all(self.errors[label] <= (1 + HARM) * given.errors[label] for label in judged(self.errors))


Groups = Mapping[Group, NormalEquations]


def joined(parts: Sequence[Groups]) -> dict[Group, NormalEquations]:
    """The rows of several parts of the data together."""
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
        How many blocks every term has.
    parts, others : tuple of mappings of Group to NormalEquations
    everything : mapping of Group to NormalEquations
    fixed : dict of Group to float
        Noises of config_types that have their own.
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
        """Folds from the normal equations of each part."""
        others = tuple(joined([p for p in parts if p is not left_out]) for left_out in parts)
        return cls(prior, blocks_of_terms, tuple(parts), others, joined(parts), fixed)

    def posterior(self, groups: Groups, parameters: TermHyperparameters) -> Posterior:
        """The fit to some of the data."""
        noises = {g: self.fixed[g] if g in self.fixed else parameters.noises[g.label] for g in groups}
        return Posterior(self.prior, groups, noises, np.repeat(parameters.scales, self.blocks_of_terms))

    def by_term(self, values: np.ndarray) -> list[float]:
        """Sums (n_terms,) of values (n_blocks,) of blocks."""
        ends = np.cumsum(self.blocks_of_terms)[:-1]
        return [float(part.sum()) for part in np.split(values, ends)]

    def trial(self, name: str, parameters: TermHyperparameters) -> Trial:
        """Cross-validation: every part is predicted by a fit to all others."""
        squares: dict[str, float] = {}
        counts: dict[str, int] = {}
        for part, others in zip(self.parts, self.others, strict=True):
            try:
                sums = self.posterior(others, parameters).square_sums(part)
            except FitError:  # it has lost all digits
                sums = dict.fromkeys(part, np.inf)
            for group, found in sums.items():
                squares[group.label] = squares.get(group.label, 0.0) + found
                counts[group.label] = counts.get(group.label, 0) + part[group].n_rows
        return Trial(name, parameters, {label: float(np.sqrt(squares[label] / counts[label])) for label in squares})


def divided(structures: Sequence[LabelledStructure], rng: np.random.Generator) -> list[list[LabelledStructure]]:
    """The structures in `N_FOLDS` parts at random, every config_type in all of them.

    Raises
    ------
    FitError
        If there are too few.
    """
    if len(structures) < N_FOLDS:
        raise FitError(
            f"fit.tune: needs at least {N_FOLDS} structures for cross-validation; there are {len(structures)}"
        )
    shuffled = [structures[k] for k in rng.permutation(len(structures))]
    ordered = sorted(shuffled, key=lambda s: s.config_type)
    return [ordered[k::N_FOLDS] for k in range(N_FOLDS)]


def most_likely(folds: Folds, start: TermHyperparameters, fixed: Sequence[str] = ()) -> TermHyperparameters:
    """Maximum of the marginal likelihood over all noises but those of the `fixed` labels, and over all scales."""
    free = [label for label in start.noises if label not in fixed]
    first = np.log([*(start.noises[label] for label in free), *start.scales])

    def unpacked(x: np.ndarray) -> TermHyperparameters:
        values = np.exp(x).tolist()
        noises = {**start.noises, **dict(zip(free, values[: len(free)], strict=True))}
        return TermHyperparameters(noises, tuple(values[len(free) :]))

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, by_noise, by_scale = folds.posterior(folds.everything, unpacked(x)).log_likelihood
        except FitError:  # noises too small for the scales: a fit without digits is not likely
            return HOPELESS, np.zeros(len(x))
        slopes = [sum(v for g, v in by_noise.items() if g.label == label and g not in folds.fixed) for label in free]
        return -value, -np.array([*slopes, *folds.by_term(by_scale)])

    bounds = [(value - np.log(WIDEST), value + np.log(WIDEST)) for value in first]
    found = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": LIKELIHOOD_STEPS})
    return unpacked(found.x)


def best_of(folds: Folds, given: TermHyperparameters, progress: Progress) -> list[Trial]:
    """Trials of what was given, of the likelihood's proposals and of the search from the best of these; the best first."""
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
    """Multiply and divide one number after the other as long as that helps."""
    for name in best.hyperparameters.varied():
        for step in (factor, 1 / factor):
            while True:
                trial = folds.trial("cross-validation", best.hyperparameters.varied()[name](step))
                if trial.score > best.score - LEAST_GAIN or not trial.harms_nothing(given):
                    break
                best = trial
    return best
