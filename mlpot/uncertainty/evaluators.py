"""Evaluation of energies and forces together with their uncertainties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, cast

import numpy as np
from ase.data import chemical_symbols

from .._ext.core import CoreModel
from ..errors import ConfigError
from ..neighbours import Pairs
from ..terms.core_terms import MemberSums, Sums, evaluate, no_members
from ..terms.environments import centres_of
from ..terms.layout import columns
from ..terms.linear import NO_VARIANCE
from ..terms.linear_algebra import inverse_lower, solve_upper
from ..terms.protocol import CompiledTerm, Observed, Observer, PythonObserver, PythonTerm, Residual, Term
from ..threads import single_blas_thread
from .references import References
from .representatives import Representatives
from .variances import Members, NoveltyAlone, Variances

Summands = tuple[np.ndarray, np.ndarray, np.ndarray, MemberSums]
"""Covariances (n,) of the total energy with the representatives, posterior variances |R_s^-T k|^2 and unexplained variances
(n_atoms,) in eV^2, and forces and virial of the ensemble members."""


class Spread(Protocol):
    """Interface of evaluators that compute a model together with the variances of the prediction.

    `core` is the model in the compiled core, loaded with `observing_tables` and with the `term_tables`.
    """

    def predict(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances | NoveltyAlone | None]:
        """Local energies (n_atoms,), pair gradients (n_pairs, 3), and the variances, None if there are none."""

    def predict_members(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances, Members]:
        """As `predict`, with the members' deviations from their mean; ConfigError if the model has no ensemble."""

    def core_tables(self, counted: Sequence[int], places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """Tables u.* of a model file.

        `counted` holds the atomic number that stands for each element of the model, `places` the places of terms in the core.
        """

    def observing_tables(self, places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """Tables u.* of a model whose uncertainty is completed here."""

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """Tables of terms in the core by index of the term, including what the uncertainty needs."""


@dataclass(frozen=True)
class AllTerms:
    """Triangular factors and residuals of the whole model, which its last term applies; see `terms.protocol.Whole`."""

    representatives: Representatives

    def triangles(self, number: int) -> list[np.ndarray]:
        """Lower triangles of the explained and the posterior variance of an element; see `_triangles`.

        If local energies are differences from the energy of a lone atom with covariances l, the posterior triangle gets -G l as
        an additional first column, to be multiplied by a covariance of 1: |G (k - l)|^2 is then computed in full precision.
        """
        rep = self.representatives
        own = rep.columns_of(number)
        explaining, root = _triangles(rep, own)
        if number not in rep.lone:
            return [explaining, root]
        bordered = [np.pad(triangle, ((1, 0), (1, 0))) for triangle in (explaining, root)]
        bordered[1][1:, 0] = -root @ rep.lone[number][own]
        return bordered

    def residual(self, number: int) -> Residual | None:
        """See `Representatives.residual`."""
        return self.representatives.residual(number)

    def before(self, number: int, covariances: np.ndarray) -> np.ndarray:
        """Leading covariances (n_atoms, n_other) for the triangles of an element, with a 1 for the column of its lone atom."""
        seen = covariances[:, self.representatives.columns_before_last(number)]
        if number in self.representatives.lone:
            seen = np.insert(seen, 0, 1.0, axis=1)
        return np.ascontiguousarray(seen)


@dataclass(frozen=True)
class EnsembleSpread:
    """Evaluator of a fitted model: variances from the posterior of its representatives and an ensemble of weights.

    Parameters
    ----------
    others : tuple of PythonTerm
        Terms without sparse points that the core does not know.
    observers : tuple of Observer
        Observers of the terms with sparse points, in the order of the representatives.
    representatives : Representatives
    """

    others: tuple[PythonTerm, ...]
    observers: tuple[Observer, ...]
    representatives: Representatives

    def predict(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances]:
        """See `Spread`."""
        energies, gradients, found = self._observe(core, pairs)
        return energies, gradients, self.representatives.summary(pairs, *found)

    def predict_members(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances, Members]:
        """See `Spread`."""
        energies, gradients, (total, posterior, unexplained, members) = self._observe(core, pairs)
        variances = self.representatives.summary(pairs, total, posterior, unexplained, members)
        if np.any(variances.unexplained > 0):  # the members' energies do not include the unexplained part
            members = self._potentials(core, pairs)
        return energies, gradients, variances, self.representatives.deviations(total, members)

    def core_tables(self, counted: Sequence[int], places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread` and `models.core_uncertainty`.

        Raises
        ------
        ConfigError
            If an element has no sparse points in the last many-body term.
        """
        rep, served = self.representatives, self.observers[-1].served
        if served and (without := set(counted) - served):
            symbols = sorted(chemical_symbols[z] for z in without)
            raise ConfigError(f"{symbols} have no sparse points in the last many-body term: export without uncertainty")
        found = self.observing_tables(places) | {
            "kind": np.array([2]), "upper": rep.upper, "expected": np.array([rep.expected[z] for z in counted]),
            "known": np.array([rep.known[z] for z in counted]), "is_lone": np.array([z in rep.lone for z in counted], int),
            "lone": np.array([rep.lone.get(z, np.zeros(len(rep.upper))) for z in counted]),
        }  # fmt: skip
        for k, number in enumerate(() if served else counted):
            found[f"s{k}.columns"] = rep.columns_of(number)
            found[f"s{k}.triangles"] = np.array(self._triangles_of[number])
        return found

    def observing_tables(self, places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread`: the terms with representatives in the core, and their columns."""
        rep = self.representatives
        both = zip(rep.choice.kept, rep.terms, columns(rep.terms), strict=True)
        inside = [(places[k], term.is_many_body, part.start) for k, term, part in both if k in places]
        n_pair_terms = sum(not is_many_body for _, is_many_body, _ in inside)
        found = {
            "kind": np.array([3]), "sizes": np.array([len(rep.upper), len(inside), n_pair_terms, not rep.choice.n_pair]),
            "terms": np.array([place for place, _, _ in inside], int), "starts": np.array([start for _, _, start in inside], int),
        }  # fmt: skip
        last = self.observers[-1]
        for k, number in enumerate(sorted(last.served) if last.in_core else ()):
            found[f"p{k}.before"] = rep.columns_before_last(number)
            found[f"p{k}.lone"] = np.array([number in rep.lone], int)
        return found

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """See `Spread`."""
        both = zip(self.representatives.choice.kept, self.observers, strict=True)
        return {k: observer.core_tables() for k, observer in both if observer.in_core}

    @cached_property
    def _in_python(self) -> list[tuple[PythonObserver, slice]]:
        """Observers that the core does not know, with their columns among the representatives."""
        both = zip(self.observers, columns(self.representatives.terms), strict=True)
        return [(cast(PythonObserver, observer), part) for observer, part in both if not observer.in_core]

    def _potentials(self, core: CoreModel, pairs: Pairs) -> MemberSums:
        """Forces and virial of the members as potentials: without the unexplained part."""
        if not self._in_python:
            sums = MemberSums.none(pairs.n_atoms)
            evaluate(core, pairs, Sums(sums=sums))
            return sums
        members = no_members(pairs)
        evaluate(core, pairs, Sums(members=members))
        for observer, _ in self._in_python:
            observer.add_members(pairs, members)
        return MemberSums.of(pairs, members)

    def _observe(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Summands]:
        """Local energies, pair gradients, and the arguments of `Representatives.summary`."""
        rep = self.representatives
        covariances = np.zeros((pairs.n_atoms, len(rep.upper)))
        explained, prior = np.zeros((pairs.n_atoms, 2)), np.zeros(pairs.n_atoms)
        # pair gradients pass through memory: they are for what is added in Python
        by_pairs = bool(self._in_python or self._not_served(pairs))
        members, sums = no_members(pairs if by_pairs else None), None if by_pairs else MemberSums.none(pairs.n_atoms)
        # the last term applies triangles to the covariances with the points of all others
        first = [own for own in self._in_python if own[0] is not self.observers[-1]]
        whole = Observed(
            np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3)), covariances, members, prior, covariances, explained
        )  # fmt: skip
        self._add(pairs, first, whole)
        energies, gradients = evaluate(core, pairs, Sums(covariances, explained, prior, members if by_pairs else None, sums))
        if first:
            energies, gradients = energies + whole.energies, gradients + whole.pair_gradients
        last = [own for own in self._in_python if own[0] is self.observers[-1]]
        self._add(pairs, last, replace(whole, energies=energies, pair_gradients=gradients))
        for other in self.others:
            other.predict(pairs, energies, gradients)
        self._rest(pairs, covariances, explained)
        unexplained = prior - explained[:, 0]
        rep.add_residual(pairs, unexplained, members, self._not_served(pairs))
        total = covariances.sum(axis=0) - rep.lone_total(pairs)
        return energies, gradients, (total, explained[:, 1], unexplained, sums or MemberSums.of(pairs, members))

    def _add(self, pairs: Pairs, observers: Sequence[tuple[PythonObserver, slice]], whole: Observed) -> None:
        """Run observers in Python, which add to the arrays of all terms."""
        for observer, part in observers:
            counts = part.start >= self.representatives.choice.n_pair
            observer.add(
                pairs, replace(whole, covariances=whole.seen[:, part], variances=whole.variances if counts else None)
            )  # fmt: skip

    def _not_served(self, pairs: Pairs) -> set[int]:
        """Elements of a structure for which the last term does not compute the variances of the whole model."""
        return set(pairs.numbers.tolist()) - self.observers[-1].served

    def _rest(self, pairs: Pairs, covariances: np.ndarray, explained: np.ndarray) -> None:
        """Compute |G k|^2 for atoms of the elements that the last term does not serve."""
        for number in self._not_served(pairs):
            centres = centres_of(pairs, number)
            own = self.representatives.columns_of(number)
            lone = self.representatives.lone.get(number, np.zeros(covariances.shape[1]))[own]
            for k, (triangle, less) in enumerate(zip(self._triangles_of[number], (0.0, lone), strict=True)):
                with single_blas_thread():
                    rows = (covariances[np.ix_(centres, own)] - less) @ triangle.T
                explained[centres, k] = np.einsum("as,as->a", rows, rows)

    @cached_property
    def _triangles_of(self) -> dict[int, list[np.ndarray]]:
        """Triangles by atomic number of the elements handled by `_rest`."""
        rep, served = self.representatives, self.observers[-1].served
        return {number: _triangles(rep, rep.columns_of(number)) for number in rep.choice.unseen if number not in served}


@dataclass(frozen=True)
class IndependentSpread:
    """Evaluator of an imported model, which comes without its training data.

    The variance is k_ii - k_i (K_mm + regularisation)^-1 k_i, summed over the instances of each term as if they were
    independent, which is the variance that QUIP reports.

    Parameters
    ----------
    terms : tuple of CompiledTerm
        Terms compiled with a regularisation, which add the variances of their instances themselves.
    """

    terms: tuple[CompiledTerm, ...]

    def predict(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances]:
        """See `Spread`."""
        variances = np.zeros(pairs.n_atoms)
        energies, gradients = evaluate(core, pairs, Sums(variances=variances))
        for term in in_python(self.terms):
            term.predict(pairs, energies, gradients, variances=variances)
        return energies, gradients, Variances.of_instances(variances)

    def core_tables(self, counted: Sequence[int], places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread`."""
        return self.observing_tables(places)

    def observing_tables(self, places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread`."""
        return {"kind": np.array([1])}

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """See `Spread`."""
        return {k: term.instance_tables() for k, term in enumerate(self.terms) if term.in_core}

    def predict_members(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances, Members]:
        """See `Spread`."""
        raise ConfigError("an imported model has no ensemble of weights, since its training data are not known; fit a model")


@dataclass(frozen=True)
class UnknownSpread:
    """Evaluator of an imported model with terms that have no prior: no variances, and novelty where it has references.

    Parameters
    ----------
    terms : tuple of CompiledTerm
    references : References or None
    """

    terms: tuple[CompiledTerm, ...]
    references: References | None

    def predict(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, NoveltyAlone | None]:
        """See `Spread`."""
        energies, gradients = evaluate(core, pairs)
        for term in in_python(self.terms):
            term.predict(pairs, energies, gradients)
        known = self.references
        return energies, gradients, None if known is None else NoveltyAlone(known.novelty(pairs))

    def predict_members(self, core: CoreModel, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, Variances, Members]:
        """See `Spread`."""
        raise ConfigError(NO_VARIANCE)

    def core_tables(self, counted: Sequence[int], places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread`."""
        for term in self.terms:
            term.core_tables()  # ConfigError with its own reason for a term outside the core
        raise ConfigError(f"{NO_VARIANCE}, or export it without uncertainty")

    def observing_tables(self, places: Mapping[int, int]) -> dict[str, np.ndarray]:
        """See `Spread`."""
        return {"kind": np.array([0])}

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """See `Spread`."""
        return {k: term.core_tables() for k, term in enumerate(self.terms) if term.in_core}


def in_python(terms: Sequence[CompiledTerm]) -> list[PythonTerm]:
    """The terms that the core does not know."""
    return [cast(PythonTerm, term) for term in terms if not term.in_core]


def make_spread(compiled: Sequence[CompiledTerm], rep: Representatives | None, terms: Sequence[Term]) -> Spread:
    """Evaluator for compiled `terms`; `rep` holds the representatives of a fitted model and is None for an imported one."""
    if rep is None:
        has_prior = all(term.has_prior for term in terms)
        return IndependentSpread(tuple(compiled)) if has_prior else UnknownSpread(tuple(compiled), References.among(terms))
    with single_blas_thread():
        others = in_python([term for k, term in enumerate(compiled) if k not in rep.choice.kept])
        chosen = zip(rep.choice.kept, rep.terms, columns(rep.terms), strict=True)
        whole = AllTerms(rep)
        observers = tuple(
            own.observer(compiled[k], rep.members[part], whole if own is rep.terms[-1] else None) for k, own, part in chosen
        )
        return EnsembleSpread(tuple(others), observers, rep)


def _triangles(rep: Representatives, chosen: np.ndarray) -> list[np.ndarray]:
    """Lower triangles G with G'G = K_ss^-1 and G'G = (R_s'R_s)^-1 for the chosen representatives, which are whole blocks of K_ss.

    In the first, rows of pair-term radii are zero if there are many-body points, which alone explain the prior variance then.
    """
    if not len(chosen):
        return [np.zeros((0, 0))] * 2
    whole = solve_upper(rep.upper, np.eye(len(rep.upper))[:, chosen], transposed=True)
    root = np.linalg.qr(whole[:, ::-1]).R[::-1, ::-1]  # reversing the columns gives a lower triangle
    explaining = inverse_lower(rep.lower[np.ix_(chosen, chosen)])
    explaining[chosen < rep.choice.n_pair] = 0.0
    return [explaining, np.ascontiguousarray(root)]
