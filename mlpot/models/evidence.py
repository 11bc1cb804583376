"""What a fit has seen, in a form that any noises and energy scales can be applied to: no row is needed again.

For every group of rows that share a noise sigma the triangle T of [k, y, c] is kept: covariances with the sparse points for
energy scales of 1 eV, labels, counts of atoms. With k_mm = L L' per term and its energy scale s,

    minimise  sum_g |y - c e - k v|^2 / sigma_g^2  +  sum_t v_t' k_mm v_t / s_t^2,     weights w_t = v_t / s_t^2

from the triangle of [L'/s; T_g/sigma_g; ...]. Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters
5 and 8; Quinonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag, lapack

from ..errors import FitError
from .design_matrix import Design, Group, Rows, columns
from .factor import TriangularFactor, prior_factor, solve_upper


@dataclass
class Evidence:
    """Factors of all groups of rows, and of the prior.

    Parameters
    ----------
    design : Design
    priors : tuple of (n, n) arrays
        Lower Cholesky factors of k_mm, one per term.
    groups : dict of Group to TriangularFactor
    """

    design: Design
    priors: tuple[np.ndarray, ...]
    groups: dict[Group, TriangularFactor] = field(default_factory=dict)

    @classmethod
    def before_data(cls, design: Design, jitter: float) -> Evidence:
        """With `jitter` added to the diagonals of k_mm."""
        priors = [block_diag(*(prior_factor(b, jitter) for b in term.prior())) for term in design.unit_terms]
        return cls(
            design, tuple(p.reshape(term.n_sparse, term.n_sparse) for p, term in zip(priors, design.terms, strict=True))
        )

    def absorb(self, rows: Rows) -> None:
        """Take in rows, group by group."""
        for group, part in rows.items():
            self._factor(group).absorb(part)

    def merge(self, groups: Mapping[Group, TriangularFactor]) -> None:
        """Take in rows that were absorbed elsewhere."""
        for group in sorted(groups):
            self._factor(group).merge(groups[group])

    def _factor(self, group: Group) -> TriangularFactor:
        return self.groups.setdefault(group, TriangularFactor(self.design.n_columns))

    def posterior(
        self, noises: Mapping[Group, float], scales: Sequence[float], isolated_atom_energies: Sequence[float]
    ) -> Posterior:
        """The fit for given noises (eV/atom or eV/A), energy scales (eV) and energies of atoms (eV, in order of species)."""
        triangle = np.zeros((self.design.n_columns, self.design.n_columns), order="F")
        for part, prior, scale in zip(columns(self.design.terms), self.priors, scales, strict=True):
            triangle[part, part] = prior.T / scale
        whole = TriangularFactor.of(triangle)
        for group in sorted(self.groups):
            whole.merge(self.groups[group], 1 / noises[group])
        if not np.all(np.isfinite(whole.triangle)):
            raise FitError("the design matrix holds values that are not finite; check the structures and their labels")
        return Posterior(
            self, dict(noises), np.asarray(scales, float), np.asarray(isolated_atom_energies), whole.triangle
        )


@dataclass(frozen=True)
class Posterior:
    """A fit for certain noises and energy scales.

    Parameters
    ----------
    evidence : Evidence
    noises : dict of Group to float
    scales : (n_terms,) array
        eV.
    isolated_atom_energies : (n_species,) array
        eV.
    triangle : (n_columns, n_columns) array
        Of all rows, the prior's included, divided by their deviations.
    """

    evidence: Evidence
    noises: dict[Group, float]
    scales: np.ndarray
    isolated_atom_energies: np.ndarray
    triangle: np.ndarray

    @property
    def _n(self) -> int:
        return self.evidence.design.n_sparse

    @cached_property
    def _labels(self) -> np.ndarray:
        """What combines the columns after the sparse points to labels minus energies of atoms."""
        return np.concatenate([[1.0], -self.isolated_atom_energies])

    @cached_property
    def coefficients(self) -> np.ndarray:
        """v (M,), for energy scales of 1 eV."""
        return solve_upper(self.triangle[: self._n, : self._n], self.triangle[: self._n, self._n :] @ self._labels)

    @cached_property
    def _variances(self) -> np.ndarray:
        """Prior variance (M,) of the term that each sparse point belongs to, eV^2."""
        return np.repeat(self.scales**2, [term.n_sparse for term in self.evidence.design.terms])

    @property
    def weights(self) -> np.ndarray:
        """(M,), 1/eV."""
        return self.coefficients / self._variances

    @property
    def factor(self) -> np.ndarray:
        """Upper triangular R (M, M) with R'R = K_mm + K_mn Sigma^-1 K_nm, eV."""
        return np.asfortranarray(np.triu(self.triangle[: self._n, : self._n]) * self._variances)

    def square_sums(self, groups: Mapping[Group, TriangularFactor]) -> dict[Group, float]:
        """|y - c e - k v|^2 over the rows of each group, of this fit's data or of others."""
        combination = np.concatenate([-self.coefficients, self._labels])
        return {group: float(np.sum((factor.rows @ combination) ** 2)) for group, factor in groups.items()}

    @cached_property
    def log_likelihood(self) -> tuple[float, dict[Group, float], np.ndarray]:
        """Logarithm of the marginal likelihood, and its derivatives by the logarithms of noises and of scales (n_terms,).

        That of the projected process, y ~ N(0, K_nm K_mm^-1 K_mn + Sigma).
        """
        n, v = self._n, self.coefficients
        inverse, _ = lapack.dtrtri(self.triangle[:n, :n])
        inverse = np.triu(inverse)
        value = 2 * np.sum(np.log(np.abs(np.diag(self.triangle)[:n])))
        by_noise, by_scale = {}, np.empty(len(self.scales))
        for group, squares in self.square_sums(self.evidence.groups).items():
            factor, noise = self.evidence.groups[group], self.noises[group]
            known = np.sum((factor.rows[:, :n] @ inverse) ** 2) / noise**2
            value += squares / noise**2 + factor.n_rows * np.log(2 * np.pi * noise**2)
            by_noise[group] = squares / noise**2 - factor.n_rows + known
        for k, (part, prior) in enumerate(zip(columns(self.evidence.design.terms), self.evidence.priors, strict=True)):
            size = np.sum((prior.T @ v[part]) ** 2) / self.scales[k] ** 2
            open_ = np.sum((prior.T @ inverse[part]) ** 2) / self.scales[k] ** 2
            value += size - 2 * np.sum(np.log(np.diag(prior) / self.scales[k]))
            by_scale[k] = size + open_ - len(v[part])
        return -0.5 * value, by_noise, by_scale
