"""The uncertainty of energies and forces beside their values."""

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
from ..terms.linear_algebra import inverse_lower, solve_upper
from ..terms.protocol import CompiledTerm, Observer, Residual
from ..threads import single_blas_thread
from .representatives import Representatives
from .variances import Members, Variances

Observed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Covariances (n,) of the total energy with the representatives, |R_s^-T k|^2 and unexplained variances (n_atoms,) in eV^2,
pair gradients (n_pairs, 3, N_MEMBERS) of the members in eV/A."""


class Spread(Protocol):
    """Evaluates the terms of a model together with what is not known of the structure."""

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """Add local energies (n_atoms,) and pair gradients (n_pairs, 3)."""

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """As `predict`, with the members' deviations from their mean; ConfigError where there are none."""

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file for elements that count as these."""

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """By the place of a term: its sections of a model file, with what the uncertainty needs."""


@dataclass(frozen=True)
class AllTerms:
    """What the last term of a model needs to do for all of them; see `terms.protocol.Whole`."""

    representatives: Representatives

    def triangles(self, number: int) -> list[np.ndarray]:
        """For the posterior with a column of its own where local energies are differences from a lone atom's, with covariances l:
        -G l comes first, for a covariance of 1, so that |G (k - l)|^2 is made in full precision."""
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
        """Covariances (n_atoms, n_other) that triangles of an element begin with; a 1 for the column of its lone atom."""
        seen = covariances[:, self.representatives.columns_before_last(number)]
        if number in self.representatives.lone:
            seen = np.insert(seen, 0, 1.0, axis=1)
        return np.ascontiguousarray(seen)


@dataclass(frozen=True)
class EnsembleSpread:
    """Of a fitted model, whose data say how representatives are spread.

    Parameters
    ----------
    others : tuple of CompiledTerm
        Terms without points.
    observers : tuple of Observer
        Of the other terms, in the order of the representatives, which are among their points.
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
        if np.any(variances.unexplained > 0):  # of which the members' energies know nothing
            members = self._potentials(pairs)
        return variances, self.representatives.deviations(pairs, total, members)

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file for elements that count as these; see `models.core_uncertainty`.

        Raises
        ------
        ConfigError
            For an element without points in the last many-body term.
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
        """By the place of a term: its sections of a model file, with what the uncertainty needs."""
        places = self.representatives.choice.kept
        return {k: observer.core_tables() for k, observer in zip(places, self.observers, strict=True)}

    def _potentials(self, pairs: Pairs) -> np.ndarray:
        """Pair gradients (n_pairs, 3, N_MEMBERS) of the members as potentials, eV/A: without what the points do not explain."""
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        for observer in self.observers:
            observer.add_members(pairs, members)
        return members

    def _observe(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Observed:
        """Add energies and pair gradients; what `Representatives.summary` is made from."""
        rep = self.representatives
        parts = columns(rep.terms)
        covariances = np.zeros((pairs.n_atoms, parts[-1].stop))
        explained, prior = np.zeros((pairs.n_atoms, 2)), np.zeros(pairs.n_atoms)
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        for other in self.others:
            other.predict(pairs, energies, pair_gradients)
        for observer, part in zip(self.observers, parts, strict=True):
            counts = part.start >= rep.choice.n_pair
            observer.add(
                pairs, energies, pair_gradients, covariances[:, part], members, prior if counts else None, covariances, explained
            )
        self._rest(pairs, covariances, explained)
        unexplained = prior - explained[:, 0]
        rep.add_residual(pairs, unexplained, members, self._not_served(pairs))
        total = covariances.sum(axis=0) - rep.lone_total(pairs)
        return total, explained[:, 1], unexplained, members

    def _not_served(self, pairs: Pairs) -> set[int]:
        """The elements of a structure for which the last term does not do what is to be done for all of them."""
        return set(pairs.numbers.tolist()) - self.observers[-1].served

    def _rest(self, pairs: Pairs, covariances: np.ndarray, explained: np.ndarray) -> None:
        """|G k|^2 of the elements that the last term does not serve."""
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
        """For the elements of `_rest`."""
        rep, served = self.representatives, self.observers[-1].served
        return {number: _triangles(rep, rep.columns_of(number)) for number in rep.choice.unseen if number not in served}


@dataclass(frozen=True)
class IndependentSpread:
    """Of an imported model, of whose data nothing is known: var = k_ii - k_i (K_mm + regularisation)^-1 k_i for each
    instance of each term as if they were independent, which is what QUIP reports.

    Parameters
    ----------
    terms : tuple of CompiledTerm
        Compiled with a regularisation: they add the variances of their instances themselves.
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
        """By the place of a term: its sections of a model file, with the variances of its instances."""
        return {k: term.instance_tables() for k, term in enumerate(self.terms)}

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """See `Spread`."""
        raise ConfigError("an imported model knows nothing of its data: it has no ensemble of weights; fit a model")


def make_spread(compiled: Sequence[CompiledTerm], rep: Representatives | None) -> Spread:
    """The uncertainty of compiled terms, of a fitted model from its representatives, of an imported one (None) without."""
    if rep is None:
        return IndependentSpread(tuple(compiled))
    with single_blas_thread():
        others = tuple(term for k, term in enumerate(compiled) if k not in rep.choice.kept)
        chosen = zip(rep.choice.kept, rep.terms, columns(rep.terms), strict=True)
        whole = AllTerms(rep)
        observers = tuple(
            own.observer(compiled[k], rep.members[part], whole if own is rep.terms[-1] else None) for k, own, part in chosen
        )
        return EnsembleSpread(others, observers, rep)


def _triangles(rep: Representatives, chosen: np.ndarray) -> list[np.ndarray]:
    """Lower triangles G with G'G = K_ss^-1 and (R_s'R_s)^-1 between the chosen representatives, whole blocks of K_ss; radii of
    pair terms explain nothing of the first kind beside many-body points."""
    if not len(chosen):
        return [np.zeros((0, 0))] * 2
    whole = solve_upper(rep.upper, np.eye(len(rep.upper))[:, chosen], transposed=True)
    root = np.linalg.qr(whole[:, ::-1]).R[::-1, ::-1]  # columns read backwards: its triangle is a lower one
    explaining = inverse_lower(rep.lower[np.ix_(chosen, chosen)])
    explaining[chosen < rep.choice.n_pair] = 0.0
    return [explaining, np.ascontiguousarray(root)]
