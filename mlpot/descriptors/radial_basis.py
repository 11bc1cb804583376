"""Radial functions of the density expansion.

A radial basis defines f[n, l](r); the compiled code uses only its table, so a new basis needs only a new class here. Bases evaluate
values and the first two derivatives, including the cutoff function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import linalg, special

from ..errors import ConfigError


class RadialBasis(Protocol):
    """Interface of radial functions f[n, l](r) for tabulation."""

    @property
    def n_max(self) -> int:
        """Number of radial functions."""

    @property
    def l_max(self) -> int:
        """Highest angular degree, inclusive."""

    @property
    def cutoff(self) -> float:
        """Reach, A."""

    @property
    def cutoff_width(self) -> float:
        """Width of the step at the cutoff, A."""

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes and curvatures (3, n_distances, n_max, l_max + 1) at distances in A (1/A, 1/A^2)."""

    def self_coefficients(self) -> np.ndarray:
        """Expansion coefficients (n_max,) of the centre's own density, without the factor Y_00."""


def cosine_cutoff(distances: np.ndarray, cutoff: float, cutoff_width: float) -> np.ndarray:
    """GAP's cutoff function with its first two derivatives, (3, n_distances).

    1 below cutoff - cutoff_width, then (1 + cos(pi (r - cutoff + cutoff_width) / cutoff_width)) / 2, 0 beyond.
    """
    wave = np.pi / cutoff_width
    phase = wave * (distances - cutoff + cutoff_width)
    inside = distances <= cutoff - cutoff_width
    values = np.array([0.5 * (1 + np.cos(phase)), -0.5 * wave * np.sin(phase), -0.5 * wave**2 * np.cos(phase)])
    values[:, inside] = np.array([1.0, 0.0, 0.0])[:, None]
    values[:, distances >= cutoff] = 0.0
    return values


def times_cutoff(functions: np.ndarray, cutoff_values: np.ndarray) -> np.ndarray:
    """Product of functions (3, n, ...) and a cutoff function (3, n), with derivatives by the product rule."""
    f0, f1, f2 = functions
    c0, c1, c2 = (c.reshape(c.shape + (1,) * (f0.ndim - 1)) for c in cutoff_values)
    return np.array([f0 * c0, f1 * c0 + f0 * c1, f2 * c0 + 2 * f1 * c1 + f0 * c2])


def scaled_bessel_i(l_max: int, x: np.ndarray) -> np.ndarray:
    """exp(-|x|) i_l(x) for l = 0..l_max, (l_max + 1, *x.shape), without overflow and with parity (-1)^l."""
    size = np.abs(x)
    orders = np.arange(l_max + 1).reshape((-1,) + (1,) * np.ndim(x))
    safe = np.where(size > 1e-12, size, 1.0)
    values = np.sqrt(np.pi / (2 * safe)) * special.ive(orders + 0.5, safe)
    at_zero = (orders == 0).astype(float)
    values = np.where(size > 1e-12, values, at_zero)
    return np.where((orders % 2 == 1) & (x < 0), -values, values)


def _bessel_derivative(values: np.ndarray) -> np.ndarray:
    """i_l' = (l i_{l-1} + (l+1) i_{l+1}) / (2l+1), from orders 0..L to orders 0..L-1, with the same scale factor."""
    orders = np.arange(len(values) - 1).reshape((-1,) + (1,) * (values.ndim - 1))
    below = np.concatenate([np.zeros_like(values[:1]), values[:-2]])
    return (orders * below + (orders + 1) * values[1:]) / (2 * orders + 1)


@dataclass(frozen=True)
class GapRadialBasis:
    """GAP's equispaced Gaussian shells, orthonormalised (DESIGN; Bartok, Kondor, Csanyi, doi:10.1103/PhysRevB.87.184115).

    Parameters
    ----------
    n_max, l_max : int
        Number of radial functions; highest angular degree (inclusive).
    cutoff, cutoff_width, atom_sigma : float
        In A.
    basis_error_exponent : float
        Shells extend to the radius at which the density of an atom at the cutoff has decayed to 10**-basis_error_exponent.
    """

    n_max: int
    l_max: int
    cutoff: float
    cutoff_width: float
    atom_sigma: float
    basis_error_exponent: float = 10.0

    @property
    def _alpha(self) -> float:
        return 0.5 / self.atom_sigma**2

    @cached_property
    def _shells(self) -> np.ndarray:
        reach = self.cutoff + self.atom_sigma * np.sqrt(2 * self.basis_error_exponent * np.log(10))
        return np.arange(self.n_max) * reach / self.n_max

    @cached_property
    def _overlap_factor(self) -> np.ndarray:
        """Lower Cholesky factor of the overlap of the shells' Gaussians, integrated with r^2 from 0 to infinity."""
        a, r = self._alpha, self._shells
        total, difference = r[:, None] + r, r[:, None] - r
        squares = r[:, None] ** 2 + r**2
        overlap = np.sqrt(2) * a**1.5 * total * np.exp(-a * squares)
        overlap += (
            a
            * np.sqrt(np.pi)
            * np.exp(-0.5 * a * difference**2)
            * (1 + a * total**2)
            * (1 + special.erf(np.sqrt(0.5 * a) * total))
        )
        overlap /= np.sqrt(128 * a**5)
        try:
            return linalg.cholesky(overlap, lower=True)
        except linalg.LinAlgError as error:
            raise ConfigError(
                f"n_max = {self.n_max} shells of atom_sigma = {self.atom_sigma} A within cutoff = {self.cutoff} A are "
                "linearly dependent; lower n_max or atom_sigma"
            ) from error

    @cached_property
    def _transform(self) -> np.ndarray:
        coupling = np.exp(-self._alpha * (self._shells[:, None] - self._shells) ** 2)
        return linalg.solve(coupling, self._overlap_factor, assume_a="pos")

    def _shell_functions(self, distances: np.ndarray) -> np.ndarray:
        """h_la(r) = exp(-alpha (r^2 + r_a^2)) i_l(2 alpha r r_a) with two derivatives: (3, n_r, shells, l_max + 1)."""
        a = self._alpha
        r = distances[:, None]
        slope = 2 * a * self._shells  # of the Bessel function's argument
        x = r * slope
        bessel0 = scaled_bessel_i(self.l_max + 2, x)
        bessel1 = _bessel_derivative(bessel0)
        bessel2 = _bessel_derivative(bessel1)
        n_l = self.l_max + 1
        gauss = np.exp(-a * (np.abs(r) - self._shells) ** 2)
        h0, b1, b2 = bessel0[:n_l], bessel1[:n_l], bessel2[:n_l]
        first = -2 * a * r * h0 + slope * b1
        second = (4 * a**2 * r**2 - 2 * a) * h0 - 4 * a * r * slope * b1 + slope**2 * b2
        return np.moveaxis(np.array([h0, first, second]) * gauss, 1, -1)

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes and curvatures (3, n_distances, n_max, l_max + 1); see `RadialBasis`."""
        distances = np.asarray(distances, float)
        shells = self._shell_functions(distances)
        smooth = np.einsum("an,dral->drnl", self._transform, shells)
        return times_cutoff(smooth, cosine_cutoff(distances, self.cutoff, self.cutoff_width))

    def self_coefficients(self) -> np.ndarray:
        """First row of the overlap's factor: the expansion of a Gaussian at the origin."""
        return self._overlap_factor[0].copy()


RADIAL_BASES = {"gap": GapRadialBasis}
"""Values of `radial_basis` in a configuration."""
