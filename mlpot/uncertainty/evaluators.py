"""The uncertainty of energies and forces beside their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import numpy as np
from ase.data import chemical_symbols

from .._ext.core import N_MEMBERS, KernelModel
from ..errors import ConfigError
from ..neighbours import Pairs
from ..terms.layout import columns
from ..terms.linear_algebra import inverse_lower, prior_factor, solve_upper
from ..terms.pair import PairTerm
from ..terms.pair_ensemble import PairMembers, pair_members
from ..terms.protocol import CompiledTerm, CorrelatedTerm, Term
from ..terms.soap import SoapTerm
from ..terms.soap_compiled import CompiledSoapTerm, centres_of
from ..terms.soap_ensemble import compile_members
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
        """By the place of a term: its sections of a model file that the uncertainty needs."""


@dataclass(frozen=True)
class EnsembleSpread:
    """Of a fitted model, whose data say how representatives are spread.

    Parameters
    ----------
    others : tuple of CompiledTerm
        Terms without points.
    pair_terms : tuple of CorrelatedTerm
        All of whose points are representatives, the first ones.
    pair_members : tuple of PairMembers
        One per pair term.
    terms : tuple of CompiledSoapTerm
        In the order of the representatives, which are among their points.
    models : tuple of tuple of KernelModel
        Of every element in every such term: with members; in the last term also with G'G = K_ss^-1 and (R_s'R_s)^-1.
    representatives : Representatives
    """

    others: tuple[CompiledTerm, ...]
    pair_terms: tuple[CorrelatedTerm, ...]
    pair_members: tuple[PairMembers, ...]
    terms: tuple[CompiledSoapTerm, ...]
    models: tuple[tuple[KernelModel, ...], ...]
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
        rep = self.representatives
        if self.terms and (without := set(counted) - {part.number for part in self.terms[-1].parts}):
            symbols = sorted(chemical_symbols[z] for z in without)
            raise ConfigError(f"{symbols} have no sparse points in the last many-body term: export without uncertainty")
        parts = columns(rep.terms)
        found = {
            "kind": np.array([2]), "sizes": np.array([len(rep.upper), len(parts), len(self.pair_terms)]),
            "terms": np.array(list(rep.choice.kept)), "starts": np.array([0, *(part.stop for part in parts)]),
            "upper": rep.upper, "expected": np.array([rep.expected[z] for z in counted]),
            "known": np.array([rep.known[z] for z in counted]), "is_lone": np.array([z in rep.lone for z in counted], int),
            "lone": np.array([rep.lone.get(z, np.zeros(len(rep.upper))) for z in counted]),
        }  # fmt: skip
        for k, part in enumerate(self.terms[-1].parts if self.terms else ()):
            found[f"p{k}.before"] = self._before(part.number)
            found[f"p{k}.lone"] = np.array([part.number in rep.lone], int)
        for k, number in enumerate(() if self.terms else counted):
            found[f"s{k}.columns"] = rep.columns_of(number)
            found[f"s{k}.triangles"] = np.array(self._triangles_of[number])
        return found

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """By the place of a term: its sections of a model file that only the uncertainty needs, or all."""
        places = list(self.representatives.choice.kept)
        found = {k: table.core_tables() for k, table in zip(places, self.pair_members, strict=False)}
        many_body = zip(places[len(self.pair_terms) :], self.terms, self.models, strict=True)
        return found | {k: term.core_tables(models) for k, term, models in many_body}

    def _potentials(self, pairs: Pairs) -> np.ndarray:
        """Pair gradients (n_pairs, 3, N_MEMBERS) of the members as potentials, eV/A: without what the points do not explain."""
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        for table in self.pair_members:
            table.add_gradients(pairs, members)
        for term, models in zip(self.terms, self.models, strict=True):
            term.evaluate(pairs, energies, gradients, models, member_gradients=members)
        return members

    def _observe(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Observed:
        """Add energies and pair gradients; what `Representatives.summary` is made from."""
        parts = columns(self.representatives.terms)
        covariances = np.zeros((pairs.n_atoms, parts[-1].stop))
        explained = np.zeros((pairs.n_atoms, 2))
        members = np.zeros((pairs.n_pairs, 3, N_MEMBERS), np.float32)
        for other in self.others:
            other.predict(pairs, energies, pair_gradients)
        prior = np.zeros(pairs.n_atoms)
        # the prior variance of pairs counts where there is nothing else
        wanted = {} if self.terms else {"variances": prior}
        for pair, table, part in zip(self.pair_terms, self.pair_members, parts, strict=False):
            pair.predict(pairs, energies, pair_gradients, covariances=covariances[:, part], **wanted)
            table.add_gradients(pairs, members)
        if self.terms:
            self._observe_many_body(pairs, energies, pair_gradients, covariances, explained, members)
            prior = np.sum([term.variances(pairs) for term in self.terms], axis=0)
        self._rest(pairs, covariances, explained)
        unexplained = prior - explained[:, 0]
        if without_points := self._without_points(pairs):
            self.representatives.add_residual(pairs, unexplained, members, without_points)
        total = covariances.sum(axis=0) - self.representatives.lone_total(pairs)
        return total, explained[:, 1], unexplained, members

    def _without_points(self, pairs: Pairs) -> set[int]:
        """The elements of a structure that have no points in a last many-body term."""
        return set(pairs.numbers.tolist()) - {part.number for part in self.terms[-1].parts} if self.terms else set()

    def _observe_many_body(
        self,
        pairs: Pairs,
        energies: np.ndarray,
        pair_gradients: np.ndarray,
        covariances: np.ndarray,
        explained: np.ndarray,
        members: np.ndarray,
    ) -> None:
        """The many-body terms' part of `_observe`: the last of them adds up |G k|^2 over all terms."""
        parts = columns(self.representatives.terms)[len(self.pair_terms) :]
        for term, models, part in zip(self.terms[:-1], self.models, parts, strict=False):
            term.evaluate(
                pairs, energies, pair_gradients, models, covariances=covariances[:, part], member_gradients=members
            )
        last, part = self.terms[-1], parts[-1]
        seen = [self._seen(covariances, own.number) for own in last.parts]
        last.evaluate(pairs, energies, pair_gradients, self.models[-1], explained, seen, covariances[:, part], members)

    def _seen(self, covariances: np.ndarray, number: int) -> np.ndarray:
        """Covariances (n_atoms, n_other) that triangles of an element begin with; a 1 for the column of its lone atom."""
        seen = covariances[:, self._before(number)]
        if number in self.representatives.lone:
            seen = np.insert(seen, 0, 1.0, axis=1)
        return np.ascontiguousarray(seen)

    def _before(self, number: int) -> np.ndarray:
        """An element's representatives in all terms but the last."""
        found = self.representatives.columns_of(number)
        return found[found < columns(self.representatives.terms)[-1].start]

    def _rest(self, pairs: Pairs, covariances: np.ndarray, explained: np.ndarray) -> None:
        """|G k|^2 of the elements that have no points in a last many-body term."""
        for number in self._without_points(pairs) if self.terms else set(pairs.numbers.tolist()):
            centres = centres_of(pairs, number)
            own = self._before(number) if self.terms else self.representatives.columns_of(number)
            lone = self.representatives.lone.get(number, np.zeros(covariances.shape[1]))[own]
            for k, (triangle, less) in enumerate(zip(self._triangles_of[number], (0.0, lone), strict=True)):
                with single_blas_thread():
                    rows = (covariances[np.ix_(centres, own)] - less) @ triangle.T
                explained[centres, k] = np.einsum("as,as->a", rows, rows)

    @cached_property
    def _triangles_of(self) -> dict[int, list[np.ndarray]]:
        """For the elements of `_rest`."""
        served = {part.number for part in self.terms[-1].parts} if self.terms else set()
        return {
            number: _triangles(self.representatives, self._before(number) if self.terms else
                               self.representatives.columns_of(number))
            for number in self.representatives.choice.unseen if number not in served
        }  # fmt: skip


@dataclass(frozen=True)
class IndependentSpread:
    """Of an imported model, of whose data nothing is known: var = k_ii - k_i (K_mm + regularisation)^-1 k_i for each
    instance of each term as if they were independent, which is what QUIP reports.

    Parameters
    ----------
    terms : tuple of CompiledTerm
        Pair and three-body terms add the variances of their instances themselves.
    models : dict of int to list of KernelModel
        Those of the many-body terms, by their place in `terms`.
    regularisation : float
        eV^2, part of the prior variance of each instance.
    """

    terms: tuple[CompiledTerm, ...]
    models: dict[int, list[KernelModel]]
    regularisation: float

    def predict(self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray) -> Variances:
        """See `Spread`."""
        variances = np.zeros(pairs.n_atoms)
        for k, term in enumerate(self.terms):
            if not isinstance(term, CompiledSoapTerm):
                term.predict(pairs, energies, pair_gradients, variances=variances)
                continue
            explained = np.zeros((pairs.n_atoms, 1))
            term.evaluate(pairs, energies, pair_gradients, self.models[k], explained)
            prior = term.variances(pairs) + self.regularisation
            for part in term.parts:
                centres = centres_of(pairs, part.number)
                variances[centres] += prior[centres] - explained[centres, 0]
        return Variances.of_instances(variances)

    def core_tables(self, counted: Sequence[int]) -> dict[str, np.ndarray]:
        """Sections of a model file; see `models.core_uncertainty`."""
        return {"kind": np.array([1])}

    def term_tables(self) -> dict[int, dict[str, np.ndarray]]:
        """As of `EnsembleSpread`."""
        return {k: cast(CompiledSoapTerm, self.terms[k]).core_tables(models) for k, models in self.models.items()}

    def predict_members(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray
    ) -> tuple[Variances, Members]:
        """See `Spread`."""
        raise ConfigError("an imported model knows nothing of its data: it has no ensemble of weights; fit a model")


def make_spread(
    terms: Sequence[Term], compiled: Sequence[CompiledTerm], regularisation: float, rep: Representatives | None
) -> Spread:
    """The uncertainty of compiled terms, of a fitted model from its representatives, of an imported one (None) without."""
    with single_blas_thread():
        if rep is None:
            return _independent(terms, compiled, regularisation**2)
        others = tuple(term for k, term in enumerate(compiled) if k not in rep.choice.kept)
        used = [compiled[k] for k in rep.choice.kept]
        many_body = tuple(term for term in used if isinstance(term, CompiledSoapTerm))
        pairs = tuple(cast(CorrelatedTerm, term) for term in used[: len(used) - len(many_body)])
        parts = columns(rep.terms)
        tables = tuple(
            pair_members(cast(PairTerm, own), rep.members[part])
            for own, part in zip(rep.terms[: len(pairs)], parts, strict=False)
        )
        models = _with_members(rep, many_body) if many_body else ()
        return EnsembleSpread(others, pairs, tables, many_body, models, rep)


def _independent(terms: Sequence[Term], compiled: Sequence[CompiledTerm], variance: float) -> IndependentSpread:
    models = {}
    for k, (term, own) in enumerate(zip(terms, compiled, strict=True)):
        if isinstance(own, CompiledSoapTerm):
            triangles = [inverse_lower(prior_factor(block, variance)) for block in term.prior()]
            models[k] = [part.model([triangle]) for part, triangle in zip(own.parts, triangles, strict=True)]
    return IndependentSpread(tuple(compiled), models, variance)


def _with_members(rep: Representatives, terms: Sequence[CompiledSoapTerm]) -> tuple[tuple[KernelModel, ...], ...]:
    """Models of every element in every term; see `ManyBodySpread`."""
    models = []
    first = len(rep.terms) - len(terms)
    for term, own, part in zip(terms, rep.terms[first:], columns(rep.terms)[first:], strict=True):
        soap = cast(SoapTerm, own)
        scales = dict(zip(soap.descriptor.species, soap.energy_scales, strict=True))
        models.append(
            tuple(
                species.model(
                    _bordered_triangles(rep, species.number) if term is terms[-1] else (),
                    compile_members(
                        species, rep.members[part][species.columns], scales[species.number], soap.zeta,
                        rep.residual(species.number) if term is terms[-1] else None,
                    ),
                )
                for species in term.parts
            )
        )
    return tuple(models)


def _bordered_triangles(rep: Representatives, number: int) -> list[np.ndarray]:
    """`_triangles` of an element; where its local energies are differences from a lone atom's, with covariances l, a column -G l
    comes first, for a covariance of 1, in what is left open: |G (k - l)|^2 in full precision."""
    own = rep.columns_of(number)
    explaining, root = _triangles(rep, own)
    if number not in rep.lone:
        return [explaining, root]
    bordered = [np.pad(triangle, ((1, 0), (1, 0))) for triangle in (explaining, root)]
    bordered[1][1:, 0] = -root @ rep.lone[number][own]
    return bordered


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
