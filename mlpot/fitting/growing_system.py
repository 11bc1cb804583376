"""Least squares with a growing number of rows and columns: whitened rows and accumulated normal equations.

Whitened columns never change: new sparse points only extend the Cholesky factor of their block, and so append columns to every row.
The cost of a label is therefore its own covariances and matrix products, and no covariance is computed twice. Rows are stored, for
new columns and for exact residuals: 8 bytes per row and sparse point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.linalg import blas, solve_triangular

from .design_matrix import Group
from .posterior import NormalEquations, Posterior
from .prior import Prior

ROOM = 1.25
"""Growth factor of the memory of a matrix that is full."""


class GrowingMatrix:
    """A matrix (n_rows, n_columns) with spare memory for more rows and columns."""

    def __init__(self, values: np.ndarray):
        self._memory = np.ascontiguousarray(values)
        self.shape = values.shape

    @property
    def values(self) -> np.ndarray:
        """(n_rows, n_columns) view."""
        return self._memory[: self.shape[0], : self.shape[1]]

    def grow(self, n_rows: int, n_columns: int) -> None:
        """Append `n_rows` rows and `n_columns` columns of zeros."""
        wanted = (self.shape[0] + n_rows, self.shape[1] + n_columns)
        if any(need > have for need, have in zip(wanted, self._memory.shape, strict=True)):
            larger = np.zeros([
                int(ROOM * need) if need > have else have
                for need, have in zip(wanted, self._memory.shape, strict=True)
            ])  # fmt: skip
            larger[: self.shape[0], : self.shape[1]] = self.values
            self._memory = larger
        self.shape = wanted


class GrowingSystem:
    """Rows and columns of an incremental fit.

    Parameters
    ----------
    n_blocks : int
    n_right : int
        Number of right-hand sides: the label, and the atom count of each element.

    Attributes
    ----------
    prior : Prior
    blocks : list of GrowingMatrix
        Whitened rows (n, M_b) of every block.
    right : (n, n_right) array
        Right-hand sides.
    group_of : (n,) int array
        Index into `names` for every row.
    names : list of Group
        Groups in order of appearance.
    grams : dict of Group to (M, M) arrays
        Z'Z of each group, lower triangle with zeros above.
    """

    def __init__(self, n_blocks: int, n_right: int):
        self.prior = Prior((np.empty((0, 0)),) * n_blocks)
        self.blocks = [GrowingMatrix(np.zeros((0, 0))) for _ in range(n_blocks)]
        self.right = np.zeros((0, n_right))
        self.group_of = np.zeros(0, int)
        self.names: list[Group] = []
        self.grams: dict[Group, np.ndarray] = {}

    @property
    def n_columns(self) -> int:
        """M."""
        return self.prior.n_columns

    @property
    def n_rows(self) -> int:
        return len(self.right)

    def rows(self, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Whitened rows (n, M): all, or the selected ones."""
        return np.concatenate([block.values[part] for block in self.blocks], axis=1)

    def add_columns(self, prior: Prior, values: Sequence[np.ndarray]) -> None:
        """Append sparse points to the blocks, given the new prior and their covariances (n, q_b) with all rows."""
        places, begin = [], 0
        for block, factor, new in zip(self.blocks, prior.factors, values, strict=True):
            n_old, n_new = block.shape[1], new.shape[1]
            if n_new:
                known, corner = factor[n_old:, :n_old], factor[n_old:, n_old:]
                left = new - block.values @ known.T
                block.grow(0, n_new)
                block.values[:, n_old:] = solve_triangular(corner, left.T, lower=True, check_finite=False).T
            places.append(np.arange(begin, begin + n_old))
            begin += n_old + n_new
        old = np.concatenate([np.empty(0, int), *places]).astype(int)
        new_places = np.setdiff1d(np.arange(begin), old)
        for k, name in enumerate(self.names):
            rows = self.rows(self.group_of == k)
            gram = np.zeros((begin, begin), order="F")
            gram[np.ix_(old, old)] = self.grams[name]
            beside = rows[:, new_places].T @ rows
            gram[new_places] = beside
            gram[:, new_places] = beside.T
            self.grams[name] = np.asfortranarray(np.tril(gram))
        self.prior = prior

    def add_rows(self, group: Group, rows: np.ndarray, right: np.ndarray) -> None:
        """Append data of a group: covariances (k, M) and right-hand sides (k, n_right)."""
        if group not in self.grams:
            self.names.append(group)
            self.grams[group] = np.zeros((self.n_columns, self.n_columns), order="F")
        n, whitened = self.n_rows, self.prior.whitened(rows)
        for block, part in zip(self.blocks, self.prior.slices, strict=True):
            block.grow(len(rows), 0)
            block.values[n:] = whitened[:, part]
        self.right = np.concatenate([self.right, right])
        self.group_of = np.concatenate([self.group_of, np.full(len(rows), self.names.index(group))])
        if len(rows) and self.n_columns:
            self.grams[group] = blas.dsyrk(1.0, whitened.T, beta=1.0, c=self.grams[group], lower=1, overwrite_c=1)

    def regroup(self, parts: Iterable[tuple[Group, int]]) -> None:
        """Assign existing rows to other groups, given as (group, number of rows) in the order of the rows."""
        self.names, group_of = [], []
        for group, n_rows in parts:
            if group not in self.names:
                self.names.append(group)
            group_of.append(np.full(n_rows, self.names.index(group)))
        self.group_of = np.concatenate([np.zeros(0, int), *group_of])
        self.grams = {}
        for k, name in enumerate(self.names):
            equations = NormalEquations.empty(self.n_columns)
            rows = np.ascontiguousarray(self.rows(self.group_of == k))
            equations.absorb(rows, np.zeros(len(rows)))
            self.grams[name] = equations.gram

    def equations(self, combination: np.ndarray) -> dict[Group, NormalEquations]:
        """Normal equations for a linear combination of the right-hand sides, with factors (n_right,)."""
        labels, found = self.right @ combination, {}
        for k, name in enumerate(self.names):
            mine = self.group_of == k
            own = labels[mine]
            right = self.rows(mine).T @ own
            found[name] = NormalEquations(self.grams[name], right, float(own @ own), len(own))
        return dict(sorted(found.items()))

    def refined(self, posterior: Posterior, combination: np.ndarray) -> np.ndarray:
        """Refined solution u (M,) of a fit, with residuals computed from the rows themselves."""
        weights = np.array([posterior.noises[name] for name in self.names])[self.group_of] ** -2.0
        labels = self.right @ combination

        def left(u: np.ndarray) -> np.ndarray:
            parts = self.prior.slices
            residual = labels - sum(b.values @ u[part] for b, part in zip(self.blocks, parts, strict=True))
            return np.concatenate([block.values.T @ (weights * residual) for block in self.blocks])

        return posterior.refined(posterior.whitened, left)

    def arrays(self) -> dict[str, np.ndarray]:
        """Complete state as plain arrays; see `of_arrays`."""
        found = {"right": self.right, "group_of": self.group_of}
        for k, (factor, block) in enumerate(zip(self.prior.factors, self.blocks, strict=True)):
            found |= {f"factor_{k}": factor, f"rows_{k}": block.values}
        return found | {f"gram_{k}": self.grams[name] for k, name in enumerate(self.names)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], names: Sequence[Group]) -> GrowingSystem:
        """Restore a system from the result of `arrays`, bit by bit."""
        n_blocks = sum(name.startswith("factor_") for name in arrays)
        system = cls(n_blocks, arrays["right"].shape[1])
        system.right, system.group_of, system.names = arrays["right"], arrays["group_of"], list(names)
        system.prior = Prior(tuple(arrays[f"factor_{k}"] for k in range(n_blocks)))
        system.blocks = [GrowingMatrix(arrays[f"rows_{k}"]) for k in range(n_blocks)]
        system.grams = {name: np.asfortranarray(arrays[f"gram_{k}"]) for k, name in enumerate(names)}
        return system
