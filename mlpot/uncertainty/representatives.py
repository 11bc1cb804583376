"""Representatives, a subset of the sparse points that carries the uncertainty, and an ensemble of weights drawn over them.

The fit of all data with a subset s of the sparse points has the triangular factor R_s of R[:, s], since R contains the squares of
all rows. The subset includes all radii of pair terms, and M_s of the M points of the many-body terms. With K_ss + jitter = L L' and
the covariances k of a local energy with s,

    posterior variance    (M / M_s) |R_s^-T k|^2              not determined by the data
    unexplained variance  k_ii - |L^-1 k|^2                   cannot be represented by the many-body points
    members               w_m = (M / M_s)^(1/2) R_s^-1 Q z_m,   z_m ~ N(0, 1),   Q orthogonal

The posterior variance grows with the number of points: the factor M / M_s scales the variance from the subset to the full set. The
factor is the same for all columns, since contributions of pairs and of environments cancel where the data determine their sum.

Eight random members know a variance to within a factor of two, and where one direction of the weights dominates it, as the bond of a
molecule does, a bad draw is wrong throughout a run. So z_m are orthogonal in blocks of eight rows, as in orthogonal random features
(Yu, Suresh, Choromanski, Holtmann-Rice, Kumar, NIPS 29, 1975 (2016), arXiv:1610.09072): a direction within a block has its exact
variance. Q makes w_m the symmetric square root of the posterior in coordinates where the prior is the unit matrix, in which bonds
need few coordinates: Q is the orthogonal factor of R_s^-T L. Standard deviation of log (8 members / exact) for the forces on C and O
of CO on Cu(111): 0.30 with independent z and Q = 1, 0.25 with Q = 1, 0.13 with both; on the metal atoms 0.17 in all cases.

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
from ..errors import ConfigError
from ..neighbours import Pairs
from ..settings.learning import NOVEL
from ..terms.core_terms import MemberSums
from ..terms.layout import columns, many_body
from ..terms.linear_algebra import inverse_lower, prior_factor, solve_upper
from ..terms.lone_atoms import lone_covariances
from ..terms.protocol import FittedTerm, ManyBodyTerm, Residual, Term
from .noises import Noises
from .variances import Members, Variances, force_variances

MOST_REPRESENTATIVES = 108
"""Largest number of representatives of an element in a many-body term: nine tiles of the matrix products. The rank correlation of
force uncertainties with errors of left-out structures is 0.90 (Si) and 0.90 (Mo); with 64 points 0.880 and 0.904, with 264 0.910
and 0.905."""
SEED = 20
"""Random seed of the members: the same factor gives the same ensemble everywhere."""
DISTINCT = 1e-12
"""Smallest part of its prior variance that an additional representative must explain."""
TYPICAL = 0.9
"""Fraction of the representatives that count as known to each other: at the edges of the data more variance is unexplained."""
RESOLUTION, STRANGE = 0.009, 0.04
"""Bounds of the variance that counts as known, relative to the unexplained variance of lone atoms and pairs. Environments below the
first are always known; above the second they never are, even if few and dissimilar points would suggest a larger bound."""


def known_share(left: np.ndarray, strangest: float) -> float:
    """Fraction of the prior variance up to which environments of an element count as known.

    `left` (n,) are the fractions of points that all the others leave unexplained, `strangest` the fraction at lone atoms and pairs.
    """
    share = np.quantile(left, TYPICAL) if len(left) else np.inf
    return float(np.clip(share, RESOLUTION * strangest, STRANGE * strangest))


@dataclass(frozen=True)
class Choice:
    """Sparse points chosen as representatives.

    Parameters
    ----------
    terms : tuple of FittedTerm
        Terms with sparse points, many-body terms last, restricted to their representatives.
    columns : (n,) int array
        Columns of the representatives among the columns of all terms.
    kept : dict of int to tuple of (n,) int arrays
        By index of the term: indices of the representatives within each of its blocks.
    n_pair : int
        Number of leading columns that belong to pair terms; 0 if there are only pair terms.
    share : float
        M / M_s.
    unseen : dict of int to float
        By atomic number: largest prior variance of any sparse point not explained by the representatives, eV^2.
    """

    terms: tuple[FittedTerm, ...]
    columns: np.ndarray
    kept: dict[int, tuple[np.ndarray, ...]]
    n_pair: int
    share: float
    unseen: dict[int, float]

    def factor(self, upper: np.ndarray) -> np.ndarray:
        """Triangular factor R_s of the representatives from the factor R (M, M) of all sparse points."""
        if np.array_equal(self.columns, np.arange(len(upper))):
            return upper
        return np.linalg.qr(upper[:, self.columns]).R


def choose(terms: Sequence[Term], species: Sequence[int]) -> Choice:
    """Choose the representatives of a fitted model's terms; many-body terms come last."""
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
    """Normal numbers z (n_points, N_MEMBERS), orthogonal in blocks of N_MEMBERS rows; the same in every call."""
    n_blocks = -(-n_points // N_MEMBERS)
    blocks = np.random.default_rng(SEED).standard_normal((n_blocks, N_MEMBERS, N_MEMBERS))
    turns, upper = np.linalg.qr(blocks)
    turns *= np.sign(np.einsum("kii->ki", upper))[:, None, :]  # uniform over all rotations
    return np.sqrt(N_MEMBERS) * turns.reshape(-1, N_MEMBERS)[:n_points]


@dataclass(frozen=True)
class Representatives:
    """Representatives and the posterior of the fit to them.

    Parameters
    ----------
    choice : Choice
    upper : (n, n) array
        R_s (M / M_s)^(-1/2), eV.
    jitter : float
        Addition to the diagonal of K_ss in units of the squared energy scales.
    noises : Noises
        Model discrepancy.
    anchored : frozenset of int
        Elements whose local energies are measured from the energy of a lone atom. This affects the posterior variance, not the
        unexplained one.
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
        """Block-diagonal Cholesky factor L (n, n) of K_ss, eV."""
        blocks = [
            scale * prior_factor(term.between(points, points), self.jitter)
            for term in self.terms
            for scale, points in zip(term.energy_scales, term.points, strict=True)
            if len(points)
        ]
        return block_diag(*blocks) if blocks else np.empty((0, 0))

    @cached_property
    def members(self) -> np.ndarray:
        """Weights (n, N_MEMBERS) of the members' deviations from the mean, 1/eV."""
        left, _, right = np.linalg.svd(solve_upper(self.upper, self.lower, transposed=True))
        return solve_upper(self.upper, left @ (right @ draws(len(self.upper))))

    def check(self) -> None:
        """ConfigError unless the ensemble's weights fit single precision, in which their gradients are computed."""
        largest = np.abs(self.members).max(initial=0.0)
        if not largest < np.finfo(np.float32).max or not np.isfinite(list(self.known.values())).all():
            raise ConfigError(f"factor: gives an ensemble of weights of up to {largest:g}; fit the model again")

    def columns_before_last(self, number: int) -> np.ndarray:
        """Columns (n,) of an element's representatives in all terms but the last."""
        own = self.columns_of(number)
        return own[own < columns(self.terms)[-1].start]

    def columns_of(self, number: int) -> np.ndarray:
        """Columns (n,) of the representatives with which atoms of an element have covariances."""
        parts = zip(self.terms, columns(self.terms), strict=True)
        return np.concatenate(
            [np.empty(0, int), *(term.columns_of(number) + part.start for term, part in parts)]
        ).astype(int)

    @cached_property
    def known(self) -> dict[int, float]:
        """Unexplained variance up to which environments count as known, by atomic number, eV^2.

        For nine of ten representatives, the variance left unexplained by the others, 1 / (K_ss^-1)_ii, is below this value.
        """
        left = 1.0 / squares(inverse_lower(self.lower)) if len(self.lower) else np.empty(0)
        found = dict.fromkeys(self.choice.unseen, 0.0)
        for term, part in self.explaining:
            for number in found:
                own, scale = term.columns_of(number), term.scale_of(number)
                found[number] += known_share(left[part][own] / scale**2, term.strangest(number)) * scale**2
        return found

    @cached_property
    def lone(self) -> dict[int, np.ndarray]:
        """Covariances (n,) of lone atoms of anchored elements, eV^2."""
        return {number: lone_covariances(self.terms, number) for number in self.anchored & set(self.choice.unseen)}

    def lone_total(self, pairs: Pairs) -> np.ndarray:
        """Covariances (n,) of the total energy of a structure's atoms if they were all lone atoms, eV^2."""
        counts = {number: np.count_nonzero(pairs.numbers == number) for number in self.lone}
        return sum((counts[number] * own for number, own in self.lone.items()), np.zeros(len(self.upper)))

    @property
    def explaining(self) -> list[tuple[FittedTerm, slice]]:
        """Terms whose unexplained variance counts, with their columns: the many-body terms, or all terms if there are none."""
        both = zip(self.terms, columns(self.terms), strict=True)
        return [(term, part) for term, part in both if part.start >= self.choice.n_pair]

    @cached_property
    def expected(self) -> dict[int, float]:
        """Unexplained variance by atomic number, eV^2, to expect at environments that the full set of sparse points explains."""
        return {
            number: max(unseen, NOVEL**2 * self.known[number]) if unseen else 0.0
            for number, unseen in self.choice.unseen.items()
        }

    def variances(self, pairs: Pairs) -> Variances:
        """Variances of a structure, evaluated directly from the formulas (slow reference)."""
        covariances = np.concatenate([term.covariances(pairs) for term in self.terms], axis=1)
        prior = np.sum([term.variances(pairs) for term, _ in self.explaining], axis=0)
        rows = solve_triangular(self.lower, covariances.T, lower=True, check_finite=False)[self.choice.n_pair :]
        unexplained = prior - squares(rows)
        gradients = self.member_gradients(pairs, unexplained)
        for number, own in self.lone.items():
            covariances[pairs.numbers == number] -= own
        posterior = squares(solve_upper(self.upper, covariances.T, transposed=True))
        return self.summary(pairs, covariances.sum(axis=0), posterior, unexplained, MemberSums.of(pairs, gradients))

    def residual(self, number: int) -> Residual | None:
        """Contribution of the unexplained variance to the members of an element; None without a many-body term last.

        It is a draw of the gradient of the prior at the environment itself, through the features p of the last many-body term:
        for a kernel k(s) it has the covariance of k'(1)^(1/2) z.p with z ~ N(0, 1), times the square root of the variance.
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
        """The last term if it is a many-body term: the unexplained part of the members depends on its features."""
        return many_body(self.terms).get(len(self.terms) - 1)

    def member_gradients(self, pairs: Pairs, unexplained: np.ndarray) -> np.ndarray:
        """Pair gradients (n_pairs, 3, N_MEMBERS) of every member, eV/A, for unexplained variances (n_atoms,) in eV^2."""
        gradients, energies = np.zeros((N_MEMBERS, pairs.n_pairs, 3)), np.zeros(pairs.n_atoms)
        for term, part in zip(self.terms, columns(self.terms), strict=True):
            for weights, own in zip(self.members[part].T, gradients, strict=True):
                term.predict(pairs, np.ascontiguousarray(weights), energies, own)
        gradients = np.moveaxis(gradients, 0, 2)
        self.add_residual(pairs, unexplained, gradients, set(pairs.numbers.tolist()))
        return gradients

    def add_residual(self, pairs: Pairs, unexplained: np.ndarray, gradients: np.ndarray, numbers: set[int]) -> None:
        """Add the unexplained part of atoms of the given elements to the members' pair gradients (n_pairs, 3, N_MEMBERS), eV/A.

        `unexplained` are the unexplained variances (n_atoms,), eV^2.
        """
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
        self, pairs: Pairs, total: np.ndarray, posterior: np.ndarray, unexplained: np.ndarray, members: MemberSums
    ) -> Variances:
        """Variances of a structure from covariances and derivatives of the members.

        `total` are the covariances (n,) of the total energy and `posterior` the variances |R_s^-T k|^2 (n_atoms,), both relative to
        lone atoms; `unexplained` are variances (n_atoms,), all in eV^2.
        """
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
            forces=force_variances(members.forces),
            virial=np.mean(members.virial**2, axis=-1).reshape(3, 3),
            novelty=np.sqrt(unexplained / known),
            noises=self.noises,
        )

    def deviations(self, total: np.ndarray, members: MemberSums) -> Members:
        """Uncalibrated deviations of the members from their mean; `total` are the covariances (n,) of the total energy, eV^2."""
        parts = total @ self.members, members.forces, members.virial.reshape(3, 3, -1)
        return Members(*(np.moveaxis(d - d.mean(axis=-1, keepdims=True), -1, 0) for d in parts))


def squares(rows: np.ndarray) -> np.ndarray:
    """Squared lengths (n,) of the columns of an array (m, n)."""
    return np.einsum("si,si->i", rows, rows)
