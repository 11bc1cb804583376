"""The sparse points that stand for all of them where uncertainty is asked for, and an ensemble of weights drawn over them.

The fit of all data to a part s of the sparse points has the factor R_s of R[:, s], as R carries the squares of all rows. All radii
of pair terms are in it, and of M points of the many-body terms M_s. With K_ss + jitter = L L' and the covariances k of a local
energy with s,

    posterior variance    (M / M_s) |R_s^-T k|^2              what the data leave open
    unexplained           k_ii - |L^-1 k|^2                   what no data could tell through the many-body points
    members               w_m = (M / M_s)^(1/2) R_s^-1 z_m,   z_m ~ N(0, 1)

A posterior variance adds up over the points that it has: the factor M / M_s makes that of a part as large as that of all. It is the
same for all columns, as contributions of pairs and of environments cancel where the data know their sum.
Quinonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), for the posterior of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy.linalg import block_diag, solve_triangular

from .._ext.core import N_MEMBERS
from ..neighbours import Pairs
from ..settings.learning import NOVEL
from ..terms.layout import columns, many_body
from ..terms.linear_algebra import inverse_lower, prior_factor, solve_upper
from ..terms.lone_atoms import lone_covariances
from ..terms.protocol import FittedTerm, ManyBodyTerm, Residual, Term
from .noises import Noises
from .variances import Members, Variances, force_variances

MOST_REPRESENTATIVES = 108
"""Of an element in a many-body term: nine tiles of the products. Force uncertainties rank the errors of structures left out
with 0.90 (Si) and 0.90 (Mo); with 64 points 0.880 and 0.904, with 264 0.910 and 0.905."""
SEED = 20
"""Of the members: the same factor has the same ensemble everywhere."""
DISTINCT = 1e-12
"""Part of its prior variance that a representative adds at least."""
TYPICAL = 0.9
"""Representatives that leave no more of each other than what counts as known: those of the edges of the data leave more."""
RESOLUTION, STRANGE = 0.009, 0.04
"""Parts of what is left at lone atoms and pairs: below the first everything counts as known, beyond the second nothing does,
not even where few points have too little in common to tell."""


@dataclass(frozen=True)
class Choice:
    """Which sparse points represent all.

    Parameters
    ----------
    terms : tuple of FittedTerm
        Those that have points, many-body ones last, with their representatives only.
    columns : (n,) int array
        Where they are among the columns of all terms.
    kept : dict of int to tuple of (n,) int arrays
        By the place of a term: which of the points of each of its blocks.
    n_pair : int
        How many of the columns, the first ones, belong to pair terms; 0 where there are no others.
    share : float
        M / M_s.
    unseen : dict of int to float
        Largest part of the prior variance, in units of that, that they leave at any sparse point of an element, eV^2.
    """

    terms: tuple[FittedTerm, ...]
    columns: np.ndarray
    kept: dict[int, tuple[np.ndarray, ...]]
    n_pair: int
    share: float
    unseen: dict[int, float]

    def factor(self, upper: np.ndarray) -> np.ndarray:
        """R_s of R (M, M)."""
        if np.array_equal(self.columns, np.arange(len(upper))):
            return upper
        return np.linalg.qr(upper[:, self.columns]).R


def choose(terms: Sequence[Term], species: Sequence[int]) -> Choice:
    """Representatives of a fitted model's terms; those of many-body terms come last."""
    with_points = {k: cast(FittedTerm, term) for k, term in enumerate(terms) if term.n_sparse}
    environments = many_body(terms)
    others = [k for k in with_points if k not in environments]
    last = [k for k in with_points if k in environments]
    parts, chosen_terms, chosen, all_kept = columns(terms), [], [], {}
    unseen = dict.fromkeys(species, 0.0)
    for k in others + last:
        term = with_points[k]
        kept = all_kept[k] = term.representatives(MOST_REPRESENTATIVES, DISTINCT)
        chosen_terms.append(term.with_points(tuple(p[own] for p, own in zip(term.points, kept, strict=True))))
        ends = np.cumsum([parts[k].start, *map(len, term.points)])
        chosen += [begin + own for begin, own in zip(ends[:-1], kept, strict=True)]
        if k in last:
            for number, left in zip(term.species, environments[k].unexplained_by(kept), strict=True):
                if left:
                    unseen[number] += left
    found = np.concatenate([np.empty(0, int), *chosen]).astype(int)
    n_pair = sum(terms[k].n_sparse for k in others) if last else 0
    share = sum(term.n_sparse for term in with_points.values()) / max(len(found), 1)
    return Choice(tuple(chosen_terms), found, all_kept, n_pair, share, unseen)


def draws(n_points: int) -> np.ndarray:
    """z (n_points, N_MEMBERS)."""
    return np.random.default_rng(SEED).standard_normal((n_points, N_MEMBERS))


@dataclass(frozen=True)
class Representatives:
    """Representatives with what the data say of them.

    Parameters
    ----------
    choice : Choice
    upper : (n, n) array
        R_s (M / M_s)^(-1/2).
    jitter : float
        Addition to the diagonal of K_ss in units of the squared energy scales.
    noises : Noises
        The model's discrepancy.
    anchored : frozenset of int
        Elements whose local energies are differences from those of lone atoms: energies, not what points explain, are theirs.
    """

    choice: Choice
    upper: np.ndarray
    jitter: float
    noises: Noises
    anchored: frozenset[int] = frozenset()

    @property
    def terms(self) -> tuple[FittedTerm, ...]:
        return self.choice.terms

    @cached_property
    def lower(self) -> np.ndarray:
        """L (n, n), block diagonal."""
        blocks = [
            scale * prior_factor(term.between(points, points), self.jitter)
            for term in self.terms
            for scale, points in zip(term.energy_scales, term.points, strict=True)
            if len(points)
        ]
        return block_diag(*blocks) if blocks else np.empty((0, 0))

    @cached_property
    def members(self) -> np.ndarray:
        """Weights (n, N_MEMBERS) of deviations from the mean, 1/eV."""
        return solve_upper(self.upper, draws(len(self.upper)))

    def columns_before_last(self, number: int) -> np.ndarray:
        """Representatives (n,) of an element in all terms but the last."""
        own = self.columns_of(number)
        return own[own < columns(self.terms)[-1].start]

    def columns_of(self, number: int) -> np.ndarray:
        """Representatives (n,) that atoms of an element have to do with."""
        parts = zip(self.terms, columns(self.terms), strict=True)
        return np.concatenate(
            [np.empty(0, int), *(term.columns_of(number) + part.start for term, part in parts)]
        ).astype(int)

    @cached_property
    def known(self) -> dict[int, float]:
        """Unexplained variance, eV^2, at environments of each element that count as known: what the representatives leave of
        each other, 1 / (K_ss^-1)_ii, is less than that at nine of ten."""
        left = 1.0 / _squares(inverse_lower(self.lower)) if len(self.lower) else np.empty(0)
        found = dict.fromkeys(self.choice.unseen, 0.0)
        for term, part in self.explaining:
            for number in found:
                own, scale = term.columns_of(number), term.scale_of(number)
                share = np.quantile(left[part][own] / scale**2, TYPICAL) if len(own) else np.inf
                limits = term.strangest(number) * np.array([RESOLUTION, STRANGE])
                found[number] += float(np.clip(share, *limits)) * scale**2
        return found

    @cached_property
    def lone(self) -> dict[int, np.ndarray]:
        """Covariances (n,) of lone atoms of anchored elements, eV^2."""
        return {number: lone_covariances(self.terms, number) for number in self.anchored & set(self.choice.unseen)}

    def lone_total(self, pairs: Pairs) -> np.ndarray:
        """Sum (n,) of the covariances of lone atoms in place of those of a structure, eV^2."""
        counts = {number: np.count_nonzero(pairs.numbers == number) for number in self.lone}
        return sum((counts[number] * own for number, own in self.lone.items()), np.zeros(len(self.upper)))

    @property
    def explaining(self) -> list[tuple[FittedTerm, slice]]:
        """The terms whose unexplained variance counts, many-body ones where there are any, and their columns."""
        both = zip(self.terms, columns(self.terms), strict=True)
        return [(term, part) for term, part in both if part.start >= self.choice.n_pair]

    @cached_property
    def expected(self) -> dict[int, float]:
        """Unexplained variance, eV^2, at environments of each element that all sparse points together do explain."""
        return {
            number: max(unseen, NOVEL**2 * self.known[number]) if unseen else 0.0
            for number, unseen in self.choice.unseen.items()
        }

    def variances(self, pairs: Pairs) -> Variances:
        """Of a structure, straight from the formulas."""
        covariances = np.concatenate([term.covariances(pairs) for term in self.terms], axis=1)
        prior = np.sum([term.variances(pairs) for term, _ in self.explaining], axis=0)
        rows = solve_triangular(self.lower, covariances.T, lower=True, check_finite=False)[self.choice.n_pair :]
        unexplained = prior - _squares(rows)
        gradients = self.member_gradients(pairs, unexplained)
        for number, own in self.lone.items():
            covariances[pairs.numbers == number] -= own
        posterior = _squares(solve_upper(self.upper, covariances.T, transposed=True))
        return self.summary(pairs, covariances.sum(axis=0), posterior, unexplained, gradients)

    def residual(self, number: int) -> Residual | None:
        """What members add, through the features of the last many-body term, where the points do not explain an environment of
        an element; None where there is no such term.

        A draw of the prior's gradient at the place itself: for a kernel k(s) it has the covariance of k'(1)^(1/2) z.p with
        z ~ N(0, 1), times the root of the variance.
        """
        own = self.last_features
        if own is None:
            return None
        rng = np.random.default_rng([SEED, number])
        slopes = np.sqrt(own.kernel.slope(1.0)) * rng.standard_normal((own.features.n_features, N_MEMBERS))
        prior = sum(term.prior_variance(number) for term in many_body(self.terms).values())
        return Residual(slopes, prior, self.expected[number])

    @property
    def last_features(self) -> ManyBodyTerm | None:
        """The last many-body term, through whose features members differ where no points explain."""
        return many_body(self.terms).get(len(self.terms) - 1)

    def member_gradients(self, pairs: Pairs, unexplained: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3, N_MEMBERS) of every member, eV/A, for unexplained variances (n_atoms,) in eV^2."""
        gradients, energies = np.zeros((N_MEMBERS, pairs.n_pairs, 3)), np.zeros(pairs.n_atoms)
        for term, part in zip(self.terms, columns(self.terms), strict=True):
            for weights, own in zip(self.members[part].T, gradients, strict=True):
                term.predict(pairs, np.ascontiguousarray(weights), energies, own)
        gradients = np.moveaxis(gradients, 0, 2)
        self.add_residual(pairs, unexplained, gradients, set(pairs.numbers.tolist()))
        return gradients

    def add_residual(self, pairs: Pairs, unexplained: np.ndarray, gradients: np.ndarray, numbers: set[int]) -> None:
        """Add to the members' pair gradients (n_pairs, 3, N_MEMBERS), eV/A, what the points leave of these elements' atoms, from
        unexplained variances (n_atoms,) in eV^2."""
        own = self.last_features
        if own is None or not numbers:
            return
        cotangents = np.zeros((N_MEMBERS, pairs.n_atoms, own.features.n_features))
        for number in numbers:
            mine = pairs.numbers == number
            residual = cast(Residual, self.residual(number))
            amplitudes = np.sqrt(np.maximum(unexplained[mine] - residual.expected, 0.0))
            cotangents[:, mine] = amplitudes[:, None] * residual.slopes.T[:, None, :]
        for cotangent, gradient in zip(cotangents, np.moveaxis(gradients, 2, 0), strict=True):
            gradient += own.features.vjp(pairs, np.ascontiguousarray(cotangent))

    def summary(
        self, pairs: Pairs, total: np.ndarray, posterior: np.ndarray, unexplained: np.ndarray, gradients: np.ndarray
    ) -> Variances:
        """From the covariances (n,) of the total energy and |R_s^-T k|^2, both less those of lone atoms, unexplained variances
        (n_atoms,) in eV^2, and the members' pair gradients (n_pairs, 3, N_MEMBERS) in eV/A."""
        expected, known = np.empty(pairs.n_atoms), np.empty(pairs.n_atoms)
        for number in np.unique(pairs.numbers).tolist():
            own = pairs.numbers == number
            expected[own], known[own] = self.expected[number], self.known[number]
        unexplained = np.maximum(unexplained, 0.0)
        whole = solve_upper(self.upper, total, transposed=True)
        return Variances(
            posterior=posterior,
            unexplained=np.maximum(unexplained - expected, 0.0),
            total=float(whole @ whole),
            forces=force_variances(pairs.forces(gradients)),
            virial=np.mean(pairs.virial(gradients) ** 2, axis=-1),
            novelty=np.sqrt(unexplained / known),
            noises=self.noises,
        )

    def deviations(self, pairs: Pairs, total: np.ndarray, gradients: np.ndarray) -> Members:
        """Members' deviations from their mean, from the covariances (n,) of the total energy in eV^2 and their pair gradients
        (n_pairs, 3, N_MEMBERS) in eV/A; not calibrated."""
        energies, forces, virials = total @ self.members, pairs.forces(gradients), pairs.virial(gradients)
        return Members(*(np.moveaxis(d - d.mean(axis=-1, keepdims=True), -1, 0) for d in (energies, forces, virials)))


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("si,si->i", rows, rows)
