"""Least squares in whitened coordinates for any noises and energy scales, and the marginal likelihood of these.

With rows Z of whitened covariances (see `prior`), labels y, a noise sigma_g for every group of rows and an energy scale s_b for
every block,

    minimise  sum_g |y - Z u|^2 / sigma_g^2 + sum_b |u|^2 / s_b^2,        B = 1 + sum_g S Z'Z S / sigma_g^2 = C C',

so the data enter only through Z'Z, Z'y and y'y of every group, and other noises or scales need no new rows. The smallest eigenvalue
of B is at least 1, so normal equations are safe here: round-off amounts to a relative change of the prior by 1e-16 times the
largest eigenvalue, about 1e-4 at worst. Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 5 and
8; Quinonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import blas, lapack, solve_triangular

from ..errors import FitError
from .design_matrix import Group
from .prior import Prior


@dataclass
class NormalEquations:
    """Normal equations of the rows that share a noise.

    Parameters
    ----------
    gram : (M, M) Fortran-ordered array
        Z'Z, lower triangle; zeros above.
    right : (M,) array
        Z'y.
    square : float
        y'y.
    n_rows : int
    """

    gram: np.ndarray
    right: np.ndarray
    square: float = 0.0
    n_rows: int = 0

    @classmethod
    def empty(cls, n_columns: int) -> NormalEquations:
        """Without rows."""
        return cls(np.zeros((n_columns, n_columns), order="F"), np.zeros(n_columns))

    def absorb(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Add whitened rows (n, M), which must be C-ordered, and labels (n,)."""
        if len(rows) and rows.shape[1]:
            self.gram = blas.dsyrk(1.0, rows.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
            self.right += rows.T @ labels
        self.square += float(labels @ labels)
        self.n_rows += len(rows)

    def merge(self, other: NormalEquations) -> None:
        """Add the rows of other normal equations."""
        self.gram += other.gram
        self.right += other.right
        self.square += other.square
        self.n_rows += other.n_rows

    def square_sum(self, whitened: np.ndarray) -> float:
        """|y - Z u|^2 for u (M,)."""
        product = blas.dsymv(1.0, self.gram, whitened, lower=1) if len(whitened) else whitened
        return max(self.square - 2 * float(self.right @ whitened) + float(whitened @ product), 0.0)


@dataclass(frozen=True)
class Posterior:
    """The fit for given noises and energy scales.

    Parameters
    ----------
    prior : Prior
    groups : mapping of Group to NormalEquations
    noises : dict of Group to float
        eV/atom (times sqrt(n_atoms)) or eV/A.
    scales : (n_blocks,) array
        Energy scale of every block, eV.
    """

    prior: Prior
    groups: Mapping[Group, NormalEquations]
    noises: Mapping[Group, float]
    scales: np.ndarray

    @cached_property
    def column_scales(self) -> np.ndarray:
        """s (M,) of every column, eV."""
        return self.prior.expanded(self.scales)

    @cached_property
    def lower(self) -> np.ndarray:
        """C (M, M), lower triangular."""
        n, s = self.prior.n_columns, self.column_scales
        matrix = np.zeros((n, n), order="F")
        for group, equations in self.groups.items():
            matrix += equations.gram / self.noises[group] ** 2
        matrix *= s
        matrix *= s[:, None]
        matrix.flat[:: n + 1] += 1.0
        if not np.all(np.isfinite(np.diagonal(matrix))):
            raise FitError("the design matrix holds values that are not finite; check the structures and their labels")
        factor, failed = lapack.dpotrf(matrix, lower=1, clean=1, overwrite_a=1) if n else (matrix, 0)
        if failed:
            raise FitError("the least-squares problem has lost all digits: noises are too small for the energy scales; "
                           "increase energy_noise or force_noise")
        return factor

    @cached_property
    def whitened(self) -> np.ndarray:
        """Solution u (M,), with one step of iterative refinement to remove round-off of the factorisation."""
        right = np.zeros(self.prior.n_columns)
        for group, equations in self.groups.items():
            right += equations.right / self.noises[group] ** 2
        return self.refined(self.solved(right), lambda u: right - self._applied(u))

    def _applied(self, u: np.ndarray) -> np.ndarray:
        """sum_g Z'Z u / sigma_g^2."""
        out = np.zeros(len(u))
        for group, equations in self.groups.items():
            out += blas.dsymv(1.0 / self.noises[group] ** 2, equations.gram, u, lower=1) if len(u) else 0.0
        return out

    def refined(self, u: np.ndarray, left) -> np.ndarray:
        """Solution u (M,) after two steps of refinement; `left(u)` returns Z' (y - Z u) / sigma^2 over all rows."""
        for _ in range(2):
            u = u + self.solved(left(u) - u / self.column_scales**2)
        return u

    def solved(self, right: np.ndarray) -> np.ndarray:
        """(1/S^2 + sum_g Z'Z / sigma_g^2)^-1 times a vector (M,)."""
        if not len(right):
            return right
        s = self.column_scales
        half = solve_triangular(self.lower, s * right, lower=True, check_finite=False)
        return s * solve_triangular(self.lower, half, lower=True, trans="T", check_finite=False)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """v (M,), for energy scales of 1 eV."""
        return self.prior.coefficients(self.whitened)

    @property
    def weights(self) -> np.ndarray:
        """(M,), 1/eV."""
        return self.coefficients / self.column_scales**2

    @property
    def factor(self) -> np.ndarray:
        """Upper triangular R (M, M) with R'R = K_mm + K_mn Sigma^-1 K_nm, eV."""
        root = self.prior.times_transposed(np.asfortranarray(self.lower.T) / self.column_scales)
        return np.asfortranarray(np.triu(root) * self.column_scales**2)

    @cached_property
    def inverse(self) -> np.ndarray:
        """B^-1 (M, M), lower triangle; zeros above."""
        if not self.prior.n_columns:
            return np.zeros((0, 0))
        found, _ = lapack.dpotri(self.lower, lower=1)
        return np.tril(found)

    def leverage(self, group: Group) -> float:
        """Effective number of parameters spent on a group of labels: the trace of Z S B^-1 S Z' / sigma^2."""
        covariance, gram = self._covariance, self.groups[group].gram
        whole = 2 * float(np.vdot(covariance, gram)) - float(np.diagonal(covariance) @ np.diagonal(gram))
        return whole / self.noises[group] ** 2

    @cached_property
    def _covariance(self) -> np.ndarray:
        """S B^-1 S (M, M), lower triangle; zeros above."""
        scaled = self.inverse * self.column_scales
        scaled *= self.column_scales[:, None]
        return scaled

    @property
    def determined(self) -> np.ndarray:
        """gamma (n_blocks,): number of directions of each block that the data determine, M_b - tr (B^-1)_bb."""
        known = 1.0 - np.diagonal(self.inverse)
        return np.array([known[part].sum() for part in self.prior.slices])

    @property
    def sizes(self) -> np.ndarray:
        """|u|^2 (n_blocks,) of every block, eV^2."""
        return np.array([self.whitened[part] @ self.whitened[part] for part in self.prior.slices])

    def square_sums(self, groups: Mapping[Group, NormalEquations] | None = None) -> dict[Group, float]:
        """|y - Z u|^2 over the rows of each group, for the data of this fit or for other data."""
        chosen = self.groups if groups is None else groups
        return {group: equations.square_sum(self.whitened) for group, equations in chosen.items()}

    @cached_property
    def log_likelihood(self) -> tuple[float, dict[Group, float], np.ndarray]:
        """Log marginal likelihood, and its derivatives with respect to log noises and log scales (n_blocks,).

        This is the likelihood of the projected process, y ~ N(0, K_nm K_mm^-1 K_mn + Sigma).
        """
        value = 2 * float(np.sum(np.log(np.diagonal(self.lower))))
        by_noise = {}
        for group, squares in self.square_sums().items():
            noise, n_rows = self.noises[group], self.groups[group].n_rows
            value += squares / noise**2 + n_rows * np.log(2 * np.pi * noise**2)
            by_noise[group] = squares / noise**2 - n_rows + self.leverage(group)
        sizes = self.sizes / self.scales**2
        return -0.5 * (value + float(sizes.sum())), by_noise, sizes - self.determined
