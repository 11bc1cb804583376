"""Compiled three-body term: a table of the triplet energy, or the sum over the sparse points if that is cheaper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.interpolate import BSpline

from .._ext.core import packed_lower
from .core_terms import kept
from .linear_algebra import inverse_lower, prior_factor
from .three_body_kernel import TripletKernel

FEWEST_POINTS = 160
"""Smallest number of sparse points for a table: evaluating it costs as much as this number of exponentials."""
LARGEST_TABLE = 2**20
"""Largest number of coefficients (8 MB); a larger table would not fit into the cache."""
COARSEST = 4.0
"""Knots per length scale of the first table, whose error determines the spacing of the next."""
CROWD = 64
"""Number of interpolation errors of triplets that may add up in an atom's energy; their signs are random."""
SHORTEST = 0.8
"""Start of the table, relative to the shortest distance among the sparse triplets."""
N_CHECKS = 500
DEGREE = 5
PADDING = 2
"""Coefficients that the core's vectors may read beyond the end of the last axis."""


@dataclass(frozen=True)
class SplineTable:
    """Quintic tensor-product B-spline of the triplet energy.

    Parameters
    ----------
    coefficients : (n_0, n_1, n_2 + 2) array
        Coefficients, eV; the last axis is padded for the core.
    start, step : (3,) arrays
        First knot of the valid range, and spacing.
    nearest : float
        Shortest covered distance from the centre, A.
    """

    coefficients: np.ndarray
    start: np.ndarray
    step: np.ndarray
    nearest: float


@dataclass(frozen=True, eq=False)
class CompiledThreeBodyTerm:
    """A `ThreeBodyTerm` with fixed weights; created by `compile_three_body`.

    Parameters
    ----------
    term : TripletKernel
    weights : (n_sparse,) array
    table : SplineTable or None
        Table of the triplet energy; None: summation over sparse points.
    regularisation : float or None
        Regularisation of the variances, eV.
    """

    term: TripletKernel
    weights: np.ndarray
    table: SplineTable | None
    regularisation: float | None
    in_core: ClassVar[bool] = True

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; sections as `mlpot_read_triplets` of the core reads them."""
        return self._tables

    def instance_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; same sections as `core_tables`."""
        return self._tables

    @cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        term, size, start, step, nearest, prior = self.term, (0, 0, 0), np.zeros(3), np.ones(3), 0.0, 0.0
        strengths = term.energy_scale**2 * term.sparse_cutoffs
        found = {"points": term.sparse_coordinates / term.length_scales, "strengths": strengths * self.weights}
        if self.table is not None:
            start, step, nearest = self.table.start, self.table.step, self.table.nearest
            n_0, n_1, n_2 = self.table.coefficients.shape
            size = n_0, n_1, n_2 - PADDING
            found["table"] = self.table.coefficients
        if self.regularisation is not None:
            variance = 2 * self.regularisation**2
            prior = term.energy_scale**2 + variance
            found |= {"covariances": strengths, "spread": packed_lower(inverse_lower(prior_factor(term.prior()[0], variance)))}
        kinds = tuple(term.species.index(z) for z in (term.centre, *term.neighbours))
        found |= {
            "type": np.array([2]),
            "species": np.array(term.species),
            "sizes": np.array([*kinds, term.n_sparse, *size, self.regularisation is not None]),
            "reals": np.array([term.cutoff, term.cutoff_width, *term.length_scales, *start, *step, nearest, prior]),
        }
        return kept(found)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_tables"}


def compile_three_body(
    term: TripletKernel, weights: np.ndarray, tolerance: float, regularisation: float | None
) -> CompiledThreeBodyTerm:
    """See `ThreeBodyTerm.compile`."""
    weights = np.ascontiguousarray(weights, float)
    table = _table_within(term, weights, tolerance / CROWD) if term.n_sparse >= FEWEST_POINTS else None
    return CompiledThreeBodyTerm(term, weights, table, regularisation)


def _table_within(term: TripletKernel, weights: np.ndarray, allowed: float) -> SplineTable | None:
    """Make a table with an error below `allowed` (eV) at random triplets; None if it would be too large."""
    total, square, _ = term.sparse_coordinates.T
    nearest = SHORTEST * float(np.min(total - np.sqrt(np.maximum(square, 0.0)))) / 2
    reach = term.cutoff
    start = np.array([2 * nearest, 0.0, 0.0])
    end = np.array([2 * reach, (reach - nearest) ** 2, 2 * reach])
    checks = _random_triplets(nearest, reach)
    exact = term.covariance(checks) @ weights
    knots = COARSEST
    while True:
        step = term.length_scales / knots
        sizes = np.ceil((end - start) / step).astype(int) + DEGREE
        if np.prod(sizes, dtype=float) > LARGEST_TABLE:
            return None
        coefficients = _coefficients(term, weights, start, step, sizes)
        error = float(np.abs(_evaluate(coefficients, start, step, checks) - exact).max())
        if error < allowed:
            padded = np.pad(coefficients, ((0, 0), (0, 0), (0, PADDING)))
            return SplineTable(np.ascontiguousarray(padded), start, step, nearest)
        knots *= max((error / allowed) ** (1 / (DEGREE + 1)), 1.05)  # the order of the interpolation


def _random_triplets(nearest: float, reach: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    r, s = rng.uniform(nearest, reach, (2, N_CHECKS))
    apart = np.sqrt(r**2 + s**2 - 2 * r * s * rng.uniform(-1, 1, N_CHECKS))
    return np.stack([r + s, (r - s) ** 2, apart], axis=1)


def _knots(start: float, step: float, size: int) -> np.ndarray:
    return start + step * np.arange(-DEGREE, size + 1)


def _coefficients(
    term: TripletKernel, weights: np.ndarray, start: np.ndarray, step: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Interpolating coefficients: the Gaussians of a sparse triplet factorise, so each direction is solved separately."""
    factors = []
    for a in range(3):
        # one place per coefficient: the knots, and the midpoints of the outermost intervals
        inner = np.arange(sizes[a] - DEGREE + 1.0)
        places = np.sort(np.concatenate([inner, [0.5, 1.5, inner[-1] - 0.5, inner[-1] - 1.5]])) * step[a] + start[a]
        places = np.minimum(places, start[a] + step[a] * inner[-1] * (1 - 1e-15))
        basis = BSpline.design_matrix(places, _knots(start[a], step[a], sizes[a]), DEGREE).toarray()
        apart = (places[:, None] - term.sparse_coordinates[:, a]) / term.length_scales[a]
        factors.append(np.linalg.solve(basis, np.exp(-0.5 * apart**2)))
    strengths = term.energy_scale**2 * term.sparse_cutoffs * weights
    return np.einsum("as,bs,cs->abc", factors[0] * strengths, factors[1], factors[2], optimize=True)


def _evaluate(coefficients: np.ndarray, start: np.ndarray, step: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values (n,) of a table at coordinates (n, 3); slow counterpart of the evaluation in the core."""
    windows, values = [], []
    for a, size in enumerate(coefficients.shape):
        basis = BSpline.design_matrix(where[:, a], _knots(start[a], step[a], size), DEGREE).tocsr()
        windows.append(basis.indices.reshape(len(where), DEGREE + 1))
        values.append(basis.data.reshape(len(where), DEGREE + 1))
    i, j, k = windows
    local = coefficients[i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]]
    return np.einsum("nabc,na,nb,nc->n", local, *values)
