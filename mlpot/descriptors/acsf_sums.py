"""Symmetry functions with one kind of neighbour weights, as linear maps of compiled sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, eye_array, hstack, kron, vstack

from ..errors import required
from .acsf_functions import EDGE, RadialFactor, SymmetryFunction, angle_place
from .curves import Curves, tabulate_curves
from .even_polynomials import even_polynomial, padded
from .mapped_sums import Source
from .neighbour_sums import Grouping, MomentSums, Triplets, legendre_coefficients

MOST_EXPANDED = 8
"""Largest zeta of wide functions that are computed from moments, at a cost linear in the number of neighbours; functions with larger
zeta are summed over triplets. For zeta = 4, 8, 16 alone, moments take 0.7, 1.3, 3 times as long with 45 neighbours, and 0.5, 0.9, 2.5
times with 86; several zeta cost moments no more than the largest."""


@dataclass(frozen=True)
class FunctionSums:
    """Values of a set of functions: radial ones by group of neighbours, angular ones by pair of groups.

    Parameters
    ----------
    functions : tuple of SymmetryFunction
        Either all weighted or none.
    species : tuple of int
    """

    functions: tuple[SymmetryFunction, ...]
    species: tuple[int, ...]

    @property
    def weighted(self) -> bool:
        return self.functions[0].weighted

    @cached_property
    def grouping(self) -> Grouping:
        n = len(self.species)
        reach = max(function.factor.end for function in self.functions)
        return Grouping(reach, np.zeros(n, int) if self.weighted else np.arange(n))

    @cached_property
    def element_weights(self) -> np.ndarray:
        return np.array(self.species, float) if self.weighted else np.ones(len(self.species))

    def tabulate(self) -> None:
        """Make the tables now; ConfigError for functions that are too sharp for them."""
        _ = self.moments, self.triplets

    @cached_property
    def radial(self) -> tuple[SymmetryFunction, ...]:
        return tuple(f for f in self.functions if f.is_radial)

    @cached_property
    def expanded(self) -> tuple[SymmetryFunction, ...]:
        """Angular functions that separate into moments."""
        return tuple(f for f in self.functions if _separates(f))

    @cached_property
    def narrow(self) -> tuple[SymmetryFunction, ...]:
        """Angular functions with r_jk."""
        return _by_shape([f for f in self.functions if f.is_narrow])

    @cached_property
    def wide(self) -> tuple[SymmetryFunction, ...]:
        """Angular functions without r_jk that are summed over triplets."""
        return _by_shape([f for f in self.functions if not f.is_radial and not f.is_narrow and not _separates(f)])

    @property
    def angular(self) -> tuple[SymmetryFunction, ...]:
        """All angular functions in the order of the values."""
        return self.expanded + self.narrow + self.wide

    @cached_property
    def factors(self) -> tuple[RadialFactor, ...]:
        """Radial factors of the moments."""
        return tuple(dict.fromkeys(f.factor for f in self.expanded))

    @cached_property
    def moments(self) -> MomentSums | None:
        """Moments, and sums of radial functions and of squares of the factors of moments; None if not needed."""
        summed = [f.factor.curve for f in self.radial] + [factor.square for factor in self.factors]
        if not summed:
            return None
        degrees = {k: max(int(f.zeta) for f in self.expanded if f.factor == x) for k, x in enumerate(self.factors)}
        entries = sorted((l, k) for k, most in degrees.items() for l in range(most + 1))
        used = [f.factor for f in self.radial + self.expanded]
        curves = tabulate_curves(
            [*summed, *(x.curve for x in self.factors)],
            {b for x in used for b in x.cutoff.breaks},
            max(x.end for x in used),
        )
        n_groups = self.grouping.n_groups if self.factors else 0
        left, right = np.tril_indices(n_groups)
        weights = self.element_weights[:, None]
        return MomentSums(
            self.grouping, curves, len(summed), np.hstack([weights, weights**2]) if self.weighted else weights, weights,
            np.array([l for l, _ in entries], int), np.array([k for _, k in entries], int), left, right,
        )  # fmt: skip

    @cached_property
    def spectrum_map(self) -> np.ndarray:
        """Linear map (n_entries, n_expanded) from spectra to functions of pairs of neighbours of different groups."""
        moments = required(self.moments, "moments")
        found = np.zeros((len(moments.degree), len(self.expanded)))
        for k, f in enumerate(self.expanded):
            a = legendre_coefficients(f.power, int(f.zeta))
            mine = np.flatnonzero(
                (moments.column == self.factors.index(f.factor)) & (moments.degree < len(a))
            )
            degree = moments.degree[mine]
            found[mine, k] = a[degree] * 4 * np.pi / (2 * degree + 1)
        return found

    @cached_property
    def self_map(self) -> np.ndarray:
        """Linear map (n_factors, n_expanded) from sums of squares to the self terms A(1) sum_j f^2 / 2."""
        found = np.zeros((len(self.factors), len(self.expanded)))
        for k, f in enumerate(self.expanded):
            found[self.factors.index(f.factor), k] = ((1 + f.lambda_) / 2) ** f.zeta
        return found

    @cached_property
    def triplets(self) -> list[Triplets]:
        """Triplet sums of narrow and wide functions, if there are any."""
        return [self._triplets(functions) for functions in (self.narrow, self.wide) if functions]

    def _triplets(self, functions: tuple[SymmetryFunction, ...]) -> Triplets:
        factors = tuple(dict.fromkeys(f.factor for f in functions))
        breaks = {b for x in factors for b in x.cutoff.breaks}
        curves = tabulate_curves([x.curve for x in factors], breaks, max(x.end for x in factors))
        angles = list(dict.fromkeys((f.zeta, f.lambda_, f.window) for f in functions))
        windows = list(dict.fromkeys(window for _, _, window in angles if window is not None))
        columns = np.array([factors.index(f.factor) for f in functions])
        ends, even, apart, between = _functions_apart(factors if functions[0].is_narrow else ())
        return Triplets(
            self.grouping, curves, self.element_weights, ends, even, apart, _window_curves(functions, windows),
            np.stack([columns, between[columns] if functions[0].is_narrow else columns], axis=1),
            np.array([angles.index((f.zeta, f.lambda_, f.window)) for f in functions]),
            np.array([zeta for zeta, _, _ in angles]), np.array([lambda_ for _, lambda_, _ in angles]),
            np.array([-1 if window is None else windows.index(window) for _, _, window in angles]),
        )  # fmt: skip

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Numbers of groups and radial functions, and of pairs of groups and angular functions."""
        n = self.grouping.n_groups
        return (n, len(self.radial)), (n * (n + 1) // 2, len(self.angular))

    @property
    def sources(self) -> list[Source]:
        """The terms of the core's sums, in the order of the columns of `linear`."""
        moments = [] if self.moments is None else [self.moments.core]
        return [*moments, *(triplets.core for triplets in self.triplets)]

    @cached_property
    def linear(self) -> csr_array:
        """Linear map (n, n_values) from the sums to the radial values (n_groups, n_radial), then the angular ones (n_group_pairs,
        n_angular)."""
        (n_groups, n_radial), (n_pairs, n_angular) = self.shapes
        parts = [] if self.moments is None else [self._map_of_moments(self.moments)]
        begin = len(self.expanded)
        for functions in filter(None, (self.narrow, self.wide)):
            chosen = eye_array(n_angular, len(functions), k=-begin)
            nothing = csr_array((n_groups * n_radial, n_pairs * len(functions)))
            parts.append(vstack([nothing, kron(eye_array(n_pairs), chosen)]))
            begin += len(functions)
        return csr_array(hstack(parts, format="csr"))

    def _map_of_moments(self, moments: MomentSums) -> csr_array:
        """The part of `linear` for sums of curves and spectra; squares, the self terms, have the last of the weights."""
        (n_groups, n_radial), (n_pairs, n_angular) = self.shapes
        n_sums = moments.sum_weights.shape[1] * moments.n_summed
        found = [kron(eye_array(n_groups), eye_array(n_radial, n_sums))]
        if not self.expanded:
            return csr_array(vstack([*found, csr_array((n_pairs * n_angular, n_groups * n_sums))]))
        like, n = _like_pairs(n_groups), len(self.expanded)
        halves = np.ones(n_pairs)
        halves[like] = 0.5
        squares, spectrum = np.zeros((n_angular, n_sums)), np.zeros((n_angular, len(moments.degree)))
        squares[:n, n_sums - len(self.factors) :] = -self.self_map.T
        spectrum[:n] = self.spectrum_map.T
        with_itself = coo_array((np.ones(n_groups), (like, np.arange(n_groups))), shape=(n_pairs, n_groups))
        angular = hstack([kron(with_itself, squares), kron(diags_array(halves), spectrum)])
        nothing = csr_array((n_groups * n_radial, n_pairs * len(moments.degree)))
        return csr_array(vstack([hstack([*found, nothing]), angular]))


def _functions_apart(
    factors: Sequence[RadialFactor],
) -> tuple[np.ndarray, np.ndarray, Curves | None, np.ndarray]:
    """`ends`, `even` and `apart` of `Triplets`, and the place of every factor among them."""
    found = [even_polynomial(x.curve, x.end) for x in factors]
    is_even = np.array([c is not None for c in found], bool)
    rest = [x for x, c in zip(factors, found, strict=True) if c is None]
    breaks = {b for x in rest for b in x.cutoff.breaks}
    apart = tabulate_curves([x.curve for x in rest], breaks, max(x.end for x in rest)) if rest else None
    ends = np.array([x.end for x, c in zip(factors, found, strict=True) if c is not None])
    place = np.where(is_even, np.cumsum(is_even) - 1, len(ends) + np.cumsum(~is_even) - 1)
    return ends, padded([c for c in found if c is not None]), apart, place


def _separates(function: SymmetryFunction) -> bool:
    return function.kind == "G5" and function.zeta == int(function.zeta) and function.zeta <= MOST_EXPANDED


def _by_shape(functions: list[SymmetryFunction]) -> tuple[SymmetryFunction, ...]:
    factors = list(dict.fromkeys(f.factor for f in functions))
    return tuple(sorted(functions, key=lambda f: factors.index(f.factor)))


def _like_pairs(n_groups: int) -> np.ndarray:
    """Index of every pair of a group with itself."""
    a = np.arange(n_groups)
    return a * (a + 1) // 2 + a


def _window_curves(functions: tuple[SymmetryFunction, ...], windows: list):
    if not windows:
        return None
    curves = [next(f.angle_curve for f in functions if f.window == window) for window in windows]
    breaks = {angle_place(b) for window in windows for b in window.breaks} | {angle_place(90.0), EDGE}
    return tabulate_curves(curves, breaks, EDGE + 1e-3)
