"""Evaluation of energies and forces together with their uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from ase.data import chemical_symbols

from .._ext.core import N_MEMBERS
from ..errors import ConfigError
from ..neighbours import Pairs
from ..terms.environments import centres_of
from ..terms.layout import columns
from ..terms.linear import NO_VARIANCE
from ..terms.linear_algebra import inverse_lower, solve_upper
from ..terms.protocol import CompiledTerm, Observed, Observer, Residual
from ..threads import single_blas_thread
from .representatives import Representatives
from .variances import Members, Variances

Summands = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Covariances (n,) of the total energy with the representatives, posterior variances |R_s^-T k|^2 and unexplained variances
(n_atoms,) in eV^2, and pair gradients (n_pairs, 3, N_MEMBERS) of the ensemble members in eV/A."""


class Spread(Protocol):
    """Interface of evaluators that compute the terms of a model together with the variances of the prediction."""

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances | None:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3) in place; return the variances, None if there are none."""

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """As `predict`, with the members' deviations from their mean; ConfigError if the model has no ensemble."""

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file; `counted` holds the atomic number that stands for each element of the model."""

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """Sections of a model file by index of the term, including the tables that the uncertainty needs."""


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
    others : tuple of CompiledTerm
        Terms without sparse points.
    observers : tuple of Observer
        Observers of the terms with sparse points, in the order of the representatives.
    representatives : Representatives
    """

    others: tuple[CompiledTerm, ...]
    observers: tuple[Observer, ...]
    representatives: Representatives

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """See `Spread`."""
        return self.representatives.summary(pairs, *self._observe(pairs, energies, pair_gradients))

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """See `Spread`."""
        total, posterior, unexplained, members = self._observe(pairs, energies, pair_gradients)
        variances = self.representatives.summary(pairs, total, posterior, unexplained, members)
        if np.any(variances.unexplained > 0):  # the members' energies do not include the unexplained part
            members = self._potentials(pairs)
        return variances, self.representatives.deviations(pairs, total, members)

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file, see `Spread.core_tables` and `models.core_uncertainty`.

        Raises
        ------
        ConfigError
            If an element has no sparse points in the last many-body term.
        """
        rep, served = self.representatives, sorted(self.observers[-1].served)
        if served and (without := set(counted) - set(served)):
            symbols = sorted(chemical_symbols[z] for z in without)
            raise ConfigError(f"{symbols} have no sparse points in the last many-body term: export without uncertainty")
        parts = columns(rep.terms)
        n_pair_terms = sum(not term.is_many_body for term in rep.terms)
        found = {
            "kind": np.array([2]), "sizes": np.array([len(rep.upper), len(parts), n_pair_terms]),
            "terms": np.array(list(rep.choice.kept)), "starts": np.array([0, *(part.stop for part in parts)]),
            "upper": rep.upper, "expected": np.array([rep.expected[z] for z in counted]),
            "known": np.array([rep.known[z] for z in counted]), "is_lone": np.array([z in rep.lone for z in counted], int),
            "lone": np.array([rep.lone.get(z, np.zeros(len(rep.upper))) for z in counted]),
        }  # fmt: skip
        for k, number in enumerate(served):
            found[f"p{k}.before"] = rep.columns_before_last(number)
            found[f"p{k}.lone"] = np.array([number in rep.lone], int)
        for k, number in enumerate(() if served else counted):
            found[f"s{k}.columns"] = rep.columns_of(number)
            found[f"s{k}.triangles"] = np.array(self._triangles_of[number])
        return found

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """Sections of a model file by index of the term; see `Spread.term_tables`."""
        places = self.representatives.choice.kept
        return {k: observer.core_tables() for k, observer in zip(places, self.observers, strict=True)}

    def _potentials(self, pairs: Pairs) -> np.ndarray:
        """Pair gradients (n_pairs, 3, N_MEMBERS) of the members as potentials, eV/A: without the unexplained part."""
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        for observer in self.observers:
            observer.add_members(pairs, members)
        return members

    def _observe(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Summands:
        """Add energies and pair gradients in place; return the arguments of `Representatives.summary`."""
        rep = self.representatives
        parts = columns(rep.terms)
        covariances = np.zeros((pairs.n_atoms, parts[-1].stop))
        explained, prior = np.zeros((pairs.n_atoms, 2)), np.zeros(pairs.n_atoms)
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        for other in self.others:
            other.predict(pairs, energies, pair_gradients)
        for observer, part in zip(self.observers, parts, strict=True):
            counts = part.start >= rep.choice.n_pair
            own, variances = covariances[:, part], prior if counts else None
            observer.add(pairs, Observed(energies, pair_gradients, own, members, variances, covariances, explained))
        self._rest(pairs, covariances, explained)
        unexplained = prior - explained[:, 0]
        rep.add_residual(pairs, unexplained, members, self._not_served(pairs))
        total = covariances.sum(axis=0) - rep.lone_total(pairs)
        return total, explained[:, 1], unexplained, members

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

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """See `Spread`."""
        variances = np.zeros(pairs.n_atoms)
        for term in self.terms:
            term.predict(pairs, energies, pair_gradients, variances=variances)
        return Variances.of_instances(variances)

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file; see `models.core_uncertainty`."""
        return {"kind": np.array([1])}

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """Sections of a model file by index of the term, with the tables for the variances of its instances."""
        return {k: term.instance_tables() for k, term in enumerate(self.terms)}

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """See `Spread`."""
        raise ConfigError("an imported model has no ensemble of weights, since its training data are not known; fit a model")


@dataclass(frozen=True)
class UnknownSpread:
    """Evaluator of an imported model with terms that have no prior: no variances.

    Parameters
    ----------
    terms : tuple of CompiledTerm
    """

    terms: tuple[CompiledTerm, ...]

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """See `Spread`."""
        for term in self.terms:
            term.predict(pairs, energies, pair_gradients)

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """See `Spread`."""
        raise ConfigError(NO_VARIANCE)

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """See `Spread`."""
        raise ConfigError(NO_VARIANCE)

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """See `Spread`."""
        return {k: term.core_tables() for k, term in enumerate(self.terms)}


def make_spread(compiled: Sequence[CompiledTerm], rep: Representatives | None, has_prior: bool = True) -> Spread:
    """Evaluator for compiled terms; `rep` holds the representatives of a fitted model and is None for an imported one.

    `has_prior`: whether every term has one, see `Term`.
    """
    if rep is None:
        return IndependentSpread(tuple(compiled)) if has_prior else UnknownSpread(tuple(compiled))
    with single_blas_thread():
        others = tuple(term for k, term in enumerate(compiled) if k not in rep.choice.kept)
        chosen = zip(rep.choice.kept, rep.terms, columns(rep.terms), strict=True)
        whole = AllTerms(rep)
        observers = tuple(
            own.observer(compiled[k], rep.members[part], whole if own is rep.terms[-1] else None) for k, own, part in chosen
        )
        return EnsembleSpread(others, observers, rep)


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
