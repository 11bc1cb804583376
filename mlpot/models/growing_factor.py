"""A least-squares problem that grows in rows and in columns; every growth costs a part of solving it anew.

    minimise |(y - K v) / sigma|^2 + |P v / s|^2,      A = [P/s; K/sigma] = Q R

Nothing is ever done but Householder reflections (LAPACK's triangular-pentagonal ones), and they are kept: a new row is
reflected into the triangle; a new column first goes through all reflections so far, as if it had been there from the
beginning. The digits are therefore those of a factorisation from scratch; see `benchmarks/README.md` for Gram-Schmidt
with Q = A R^-1, which loses them. Golub and Van Loan, Matrix Computations (2013), chapters 5.1 and 6.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from .factor import PANEL, ROWS_AT_ONCE, fold, prior_factor, solve_upper

ROOM = 1.25
"""A matrix that is full moves to memory so many times larger."""


class GrowingMatrix:
    """A matrix (n_rows, n_columns) with room for more of both."""

    def __init__(self, values: np.ndarray):
        self._memory = np.ascontiguousarray(values)
        self.shape = values.shape

    @property
    def values(self) -> np.ndarray:
        """(n_rows, n_columns) view."""
        return self._memory[: self.shape[0], : self.shape[1]]

    def grow(self, n_rows: int, n_columns: int) -> None:
        """Append so many rows and columns of zeros."""
        wanted = (self.shape[0] + n_rows, self.shape[1] + n_columns)
        if any(need > have for need, have in zip(wanted, self._memory.shape, strict=True)):
            larger = np.zeros([
                int(ROOM * need) if need > have else have
                for need, have in zip(wanted, self._memory.shape, strict=True)
            ])  # fmt: skip
            larger[: self.shape[0], : self.shape[1]] = self.values
            self._memory = larger
        self.shape = wanted


@dataclass(frozen=True)
class Reflections:
    """Householder reflections that have folded data rows into pivot rows.

    Parameters
    ----------
    pivots, rows : slice
        Of the triangle's rows, of the data's.
    vectors : (n_rows, n_pivots) array
    triangles : (panel, n_pivots) array
        As LAPACK's dtpqrt gives them.
    """

    pivots: slice
    rows: slice
    vectors: np.ndarray
    triangles: np.ndarray

    def apply(self, top: np.ndarray, data: np.ndarray) -> None:
        """Reflect columns: top (M, q) and data (n, q) in place."""
        above, below = (np.array(part, order="F") for part in (top[self.pivots], data[self.rows]))
        top[self.pivots], data[self.rows], _ = lapack.dtpmqrt(
            0, self.vectors, self.triangles, above, below, trans="T", overwrite_a=True, overwrite_b=True
        )


class GrowingFactor:
    """Triangle and data of the problem above; columns stay in the order in which they came.

    Parameters
    ----------
    n_right : int
        Right-hand sides.

    Attributes
    ----------
    matrix : GrowingMatrix
        K (n, M).
    right : (n, n_right) array
        Right-hand sides.
    weights : (n,) array
        1/sigma.
    prior : (M, M) array
        P, upper triangular: P'P is the covariance of the sparse points for s = 1.
    scales : (M,) array
        s of every column.
    upper : (M, M) array
        R.
    turned_right, rest : (M, n_right), (n, n_right) arrays
        Q' of the right-hand sides: what belongs to the triangle, and what no unknown can explain.
    history : list of Reflections
    loss : float
        Estimate of |1 - Q'Q|, Q = A R^-1: how far the triangle is from that of the rows and columns.
    """

    def __init__(self, n_right: int):
        self.matrix = GrowingMatrix(np.zeros((0, 0)))
        self.right = np.zeros((0, n_right))
        self.weights = np.zeros(0)
        self.prior = np.zeros((0, 0))
        self.scales = np.zeros(0)
        self.upper = np.zeros((0, 0), order="F")
        self.turned_right, self.rest = np.zeros((0, n_right)), np.zeros((0, n_right))
        self.history: list[Reflections] = []
        self.loss = 0.0

    @property
    def n_columns(self) -> int:
        """M."""
        return len(self.prior)

    def extended_prior(self, known: np.ndarray, own: np.ndarray) -> np.ndarray:
        """New columns (M + q, q) of P for covariances (M, q) with the unknowns that are there and (q, q), jitter included,
        among each other, for s = 1; FitError where they are not positive definite."""
        above = solve_upper(self.prior, known, transposed=True)
        return np.concatenate([above, prior_factor(own - above.T @ above, 0.0).T])

    def add_columns(self, prior: np.ndarray, values: np.ndarray, scales: np.ndarray) -> None:
        """New unknowns: columns (M + q, q) of P from `extended_prior`, columns (n, q) of K, and s (q,)."""
        m, q = self.n_columns, len(scales)
        above, corner = prior[:m], prior[m:]
        top, data = above / scales, self.weights[:, None] * values
        for reflections in self.history:
            reflections.apply(top, data)
        self.upper = np.asfortranarray(np.block([[self.upper, top], [np.zeros((q, m)), corner / scales]]))
        self.turned_right = np.concatenate([self.turned_right, np.zeros((q, self.right.shape[1]))])
        self.prior = np.block([[self.prior, above], [np.zeros((q, m)), corner]])
        self.scales = np.concatenate([self.scales, scales])
        self.matrix.grow(0, q)
        self.matrix.values[:, m:] = values
        if len(data):
            self._fold(slice(m, m + q), slice(0, len(data)), data)

    def add_rows(self, rows: np.ndarray, right: np.ndarray, weights: np.ndarray) -> None:
        """New data: rows (k, M), right-hand sides (k, n_right), 1/sigma (k,)."""
        n = len(self.weights)
        self.matrix.grow(len(rows), 0)
        self.matrix.values[n:] = rows
        self.right = np.concatenate([self.right, right])
        self.weights = np.concatenate([self.weights, weights])
        self.rest = np.concatenate([self.rest, weights[:, None] * right])
        self._fold_rows(n)

    def refactor(self) -> None:
        """The triangle from all rows at once, as if nothing had ever been added."""
        self.history = []
        self.upper = np.asfortranarray(self.prior / self.scales)
        self.turned_right = np.zeros((self.n_columns, self.right.shape[1]))
        self.rest = self.weights[:, None] * self.right
        self._fold_rows(0)

    def _fold_rows(self, first: int) -> None:
        """Reflect the data rows from `first` on into the triangle, if there is one."""
        if not self.n_columns:
            return
        for begin in range(first, len(self.weights), ROWS_AT_ONCE):
            rows = slice(begin, min(begin + ROWS_AT_ONCE, len(self.weights)))
            self._fold(slice(0, self.n_columns), rows, self.weights[rows, None] * self.matrix.values[rows])

    def _fold(self, pivots: slice, rows: slice, data: np.ndarray) -> None:
        """Reflect data rows, which are zero in all other columns, into pivot rows of the triangle."""
        self.upper[pivots, pivots], vectors, triangles = fold(np.array(self.upper[pivots, pivots], order="F"), data)
        self.history.append(Reflections(pivots, rows, vectors, triangles))
        self.history[-1].apply(self.turned_right, self.rest)

    def solve(self, combination: np.ndarray) -> np.ndarray:
        """v (M,) for right-hand sides combined with (n_right,) factors; renews `loss`."""
        probe = np.random.default_rng(0).standard_normal(self.n_columns)
        turned = solve_upper(self.upper, probe)
        squares = self.weights**2 * (self.matrix.values @ turned)
        back = self.prior.T @ (self.prior @ (turned / self.scales)) / self.scales + self.matrix.values.T @ squares
        lost = solve_upper(self.upper, back, transposed=True) - probe
        self.loss = float(np.linalg.norm(lost) / np.linalg.norm(probe))
        return solve_upper(self.upper, self.turned_right @ combination)

    def upper_in_order(self, order: np.ndarray) -> np.ndarray:
        """The triangle (M, M) of the columns in another order."""
        if np.array_equal(order, np.arange(len(order))):
            return self.upper
        turned = np.asfortranarray(self.upper[:, order])
        reduced, _, _, _ = lapack.dgeqrf(turned, lwork=PANEL * len(order), overwrite_a=True)
        return np.triu(reduced)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, as plain arrays; see `of_arrays`."""
        bounds = [[r.pivots.start, r.pivots.stop, r.rows.start, r.rows.stop, len(r.triangles)] for r in self.history]
        kept = {name: getattr(self, name) for name in KEPT}
        return {
            **kept,
            "matrix": self.matrix.values,
            "bounds": np.array(bounds, int).reshape(-1, 5),
            "vectors": _joined([r.vectors for r in self.history]),
            "triangles": _joined([r.triangles for r in self.history]),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> GrowingFactor:
        """The factor that `arrays` was asked of, to the last bit."""
        factor = cls(arrays["right"].shape[1])
        for name in KEPT:
            setattr(factor, name, arrays[name])
        factor.upper = np.asfortranarray(factor.upper)
        factor.matrix = GrowingMatrix(arrays["matrix"])
        at_vectors = at_triangles = 0
        for a, b, c, d, panel in arrays["bounds"].tolist():
            vectors = arrays["vectors"][at_vectors : at_vectors + (d - c) * (b - a)]
            triangles = arrays["triangles"][at_triangles : at_triangles + panel * (b - a)]
            at_vectors, at_triangles = at_vectors + len(vectors), at_triangles + len(triangles)
            factor.history.append(
                Reflections(
                    slice(a, b), slice(c, d),
                    vectors.reshape(d - c, b - a, order="F"), triangles.reshape(panel, b - a, order="F"),
                )
            )  # fmt: skip
        return factor


KEPT = ("right", "weights", "prior", "scales", "upper", "turned_right", "rest")


def _joined(matrices: list[np.ndarray]) -> np.ndarray:
    """The numbers of Fortran-ordered matrices, one after the other."""
    return np.concatenate([np.empty(0), *(matrix.ravel(order="F") for matrix in matrices)])
