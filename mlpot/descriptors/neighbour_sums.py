"""Compiled sums over the neighbours and triplets of every centre, of which descriptors are linear maps.

Formulas: cython_ext/core/acsf.h. Functions that separate in r_ij and r_ik are computed from sums over neighbours, not over pairs:

    sum_{j<k} v_j v_k f(r_j) f(r_k) A(cos)  =  [ sum_l a_l 4 pi / (2l + 1) sum_m c_lm^2  -  A(1) sum_j v_j^2 f(r_j)^2 ] / 2
    c_lm = sum_j v_j f(r_j) Y_lm,   A = sum_l a_l P_l

For neighbours of two different elements, the factor 1/2 and the self term are absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .._ext.core import Moments, Neighbourhood, TripletFunctions
from ..neighbours import Pairs
from .curves import Curves
from .density import species_indices


@dataclass(frozen=True)
class Grouping:
    """Grouping of neighbours by species.

    Parameters
    ----------
    cutoff : float
        A.
    group : (n_species,) int array
        Group of each species; sums never combine neighbours of different groups.
    """

    cutoff: float
    group: np.ndarray

    @property
    def n_groups(self) -> int:
        return int(self.group.max()) + 1

    def core_arrays(self, curves: Curves) -> dict:
        """Common arguments of `Moments` and `TripletFunctions`."""
        group = np.ascontiguousarray(self.group, np.int32)
        return {"group": group, "n_groups": self.n_groups, "cutoff": self.cutoff, "curves": curves.table()}


def neighbourhood(pairs: Pairs, species: tuple[int, ...]) -> Neighbourhood:
    """View of the pairs for the core; UnknownSpeciesError for an element that is not in `species`."""
    index = species_indices(pairs.numbers if pairs.elements is None else pairs.elements, species)
    return Neighbourhood(index, pairs.j, pairs.offsets, pairs.vectors, pairs.distances)


@dataclass(frozen=True)
class MomentSums:
    """Sums of curves (n_groups, n_sum_weights, n_summed), then spectra of moments (n_products, n_entries), of every centre.

    Parameters
    ----------
    grouping : Grouping
    curves : Curves
        Curves that are summed, followed by the curves of the moments; with polynomials, the curve that multiplies them is first.
    n_summed : int
        Sums of each weight: polynomials, then curves.
    sum_weights, weights : (n_species, n) arrays
        Weights of species in the sums, and in the moments.
    degree, column : (n_entries,) int arrays
        Degrees of each curve's spectrum, ascending; column 0 is the first curve after the summed ones.
    left, right : (n_products,) int arrays
        Pairs of blocks of moments (group * n_weights + weight) that are multiplied.
    n_polynomials : int
        Leading sums: of T_n(2 r / cutoff - 1) times the first curve, n < n_polynomials.
    """

    grouping: Grouping
    curves: Curves
    n_summed: int
    sum_weights: np.ndarray
    weights: np.ndarray
    degree: np.ndarray
    column: np.ndarray
    left: np.ndarray
    right: np.ndarray
    n_polynomials: int = 0
    core: Moments = field(init=False, repr=False)

    def __post_init__(self) -> None:
        integers = {
            name: np.ascontiguousarray(getattr(self, name), np.int32) for name in ("degree", "column", "left", "right")
        }
        core = Moments(
            **self.grouping.core_arrays(self.curves), n_summed=self.n_summed,
            n_polynomials=self.n_polynomials, n_angular=int(max(self.column, default=-1)) + 1,
            sum_weights=np.ascontiguousarray(self.sum_weights, float), weights=np.ascontiguousarray(self.weights, float),
            **integers,
        )  # fmt: skip
        object.__setattr__(self, "core", core)


@dataclass(frozen=True)
class Triplets:
    """Functions of triplets that contain r_jk, an angular window or a non-integer power.

    The sums of every centre are (n_group_pairs, n_functions), pairs of groups a >= b in the order of np.tril_indices.

    Parameters
    ----------
    grouping : Grouping
    curves : Curves
        Curves of r_ij and r_ik.
    weights : (n_species,) array
    ends, even : (n_even,) and (n_even, degree + 1) arrays
        Functions of r_jk as `even_polynomial`, and where they end, A.
    apart, windows : Curves or None
        The other functions of r_jk; curves of the angle in the variable of `angle_place`.
    shapes : (n_functions, 2) int array
        Indices of the curve of r_ij and r_ik, and of the function of r_jk, first polynomials, then curves; functions of the same
        shape are consecutive.
    angular : (n_functions,) int array
        Index of the angular factor of every function.
    zeta, lambdas, window : (n_angular,) arrays
        Angular factors: 2 ((1 + lambda cos) / 2)^zeta, or the curve `window` of the angle if it is not -1.
    """

    grouping: Grouping
    curves: Curves
    weights: np.ndarray
    ends: np.ndarray
    even: np.ndarray
    apart: Curves | None
    windows: Curves | None
    shapes: np.ndarray
    angular: np.ndarray
    zeta: np.ndarray
    lambdas: np.ndarray
    window: np.ndarray
    core: TripletFunctions = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = np.flatnonzero(np.any(np.diff(self.shapes, axis=0, prepend=-1), axis=1))
        integers = {
            "radial": self.shapes[starts, 0], "between": self.shapes[starts, 1], "begin": np.append(starts, len(self.shapes)),
            "angular": self.angular, "window": self.window,
        }  # fmt: skip
        core = TripletFunctions(
            **self.grouping.core_arrays(self.curves), weights=np.ascontiguousarray(self.weights, float),
            ends=np.ascontiguousarray(self.ends, float), even=np.ascontiguousarray(self.even, float),
            apart=self.apart and self.apart.table(), windows=self.windows and self.windows.table(),
            zeta=np.ascontiguousarray(self.zeta, float), lambdas=np.ascontiguousarray(self.lambdas, float),
            **{name: np.ascontiguousarray(array, np.int32) for name, array in integers.items()},
        )  # fmt: skip
        object.__setattr__(self, "core", core)


def legendre_coefficients(function: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """Legendre coefficients a (degree + 1,) of a polynomial of cos, function(cos) = sum_l a_l P_l(cos)."""
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    values = np.polynomial.legendre.legvander(nodes, degree)
    return (np.arange(degree + 1) + 0.5) * ((weights * function(nodes)) @ values)
