"""Functions of the distance, with two derivatives, that are tabulated for a compiled two-body term.

Every class is a basis for `radial_table.tabulate`, with n_max functions and l_max = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from ..descriptors.radial_basis import cosine_cutoff, times_cutoff
from .pair_kernel import PairKernel


@dataclass(frozen=True)
class Spectrum:
    """What features of a kernel are made of.

    Parameters
    ----------
    density : callable
        Fourier transform of k(t) at wave numbers (n,).
    apart : float
        t beyond which k is negligible.
    highest : float
        Wave number beyond which the density is.
    omitted : float
        Largest error of the kernel at equal distances due to omitted features, relative to energy_scale^2.
    """

    density: Callable[[np.ndarray], np.ndarray]
    apart: float
    highest: float
    omitted: float


SPECTRA = {
    "gaussian": Spectrum(lambda w: np.sqrt(2 * np.pi) * np.exp(-0.5 * w**2), 8.0, 8.0, 1e-13),
    # algebraic tails: what is left out counts like a noise of 3e-4 of the energy scale
    "matern": Spectrum(lambda w: 16 / 3 * 5**2.5 / (5 + w**2) ** 3, 11.0, 45.0, 1e-7),
}
"""By the name of the kernel in `CORRELATIONS`."""


@dataclass(frozen=True)
class TermCurves:
    """Base class of functions of the distance with the cutoff of a term."""

    term: PairKernel

    l_max = 0

    @property
    def cutoff(self) -> float:
        return self.term.cutoff

    @property
    def cutoff_width(self) -> float:
        return self.term.cutoff_width


@dataclass(frozen=True)
class PotentialCurves(TermCurves):
    """u(r) / 2 in eV of every pair of elements with sparse radii."""

    weights: np.ndarray

    @property
    def n_max(self) -> int:
        return len(self._columns)

    @cached_property
    def _columns(self) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
        """Sparse radii, weights, energy scale and contact of each pair of elements."""
        ends = np.cumsum([len(radii) for radii in self.term.sparse_radii])
        parts = np.split(self.weights, ends[:-1])
        columns = zip(self.term.sparse_radii, parts, self.term.energy_scales, strict=True)
        return [(*of, self.term.contact(kind)) for kind, of in enumerate(columns) if len(of[0])]

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n, n_max, 1)."""
        curves = [
            times_cutoff(
                0.5 * (self.term.bare_covariances(distances, radii, scale, contact) @ part),
                self.term.envelope(distances, contact),
            )
            for radii, part, scale, contact in self._columns
        ]
        return np.stack(curves, axis=2)[..., None]

    def summands(self, distances: np.ndarray) -> float:
        """Largest sum of absolute values of the terms of u / 2, the scale of its rounding errors."""
        terms = [
            self.term.envelope(distances, contact)[0]
            * (np.abs(self.term.bare_covariances(distances, radii, scale, contact)[0]) @ np.abs(part))
            for radii, part, scale, contact in self._columns
        ]
        return 0.5 * float(np.max(terms))


@dataclass(frozen=True)
class CovarianceCurves(TermCurves):
    """Covariances of u(r) / 2 with u at each sparse radius, eV^2; radii of all pairs of elements in turn."""

    @property
    def n_max(self) -> int:
        return self.term.n_sparse

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n, n_sparse, 1)."""
        curves = [
            times_cutoff(
                0.5 * self.term.bare_covariances(distances, radii, scale, self.term.contact(kind)),
                self.term.envelope(distances, self.term.contact(kind)),
            )
            for kind, (radii, scale) in enumerate(zip(self.term.sparse_radii, self.term.energy_scales, strict=True))
        ]
        return np.concatenate(curves, axis=2)[..., None]


@dataclass(frozen=True)
class InstanceCurves(TermCurves):
    """Variance of an atom's share e = u(r) / 2 of a bond given its values at the sparse radii, eV^2, as in QUIP's
    local_gap_variance; with d = energy_scale / 2 and s = regularisation in eV:

        v(r) = f_c(r)^2 a(r)^2 [d^2 + s^2 - k(r)^T (K + s^2 1)^-1 k(r)],

    k_s(r) = d^2 k((r - r_s) / length_scale) f_c(r_s) and K_st = k_s(r_t) f_c(r_t).
    """

    regularisation: float

    @property
    def n_max(self) -> int:
        return len(self._factors)

    @cached_property
    def _share(self) -> PairKernel:
        return replace(self.term, energy_scales=tuple(0.5 * scale for scale in self.term.energy_scales))

    @cached_property
    def _factors(self) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
        """Sparse radii, the Cholesky factor of K + s^2 1, d and the contact of each pair of elements."""
        found, noise = [], self.regularisation**2
        for kind, (r, d) in enumerate(zip(self._share.sparse_radii, self._share.energy_scales, strict=True)):
            if len(r):
                factor = cholesky(d**2 * self._share.between(r, r) + noise * np.eye(len(r)), lower=True)
                found.append((r, factor, d, self.term.contact(kind)))
        return found

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n, n_max, 1)."""
        curves = []
        for radii, factor, scale, contact in self._factors:
            f0, f1, f2 = self.term.envelope(distances, contact)
            squared = np.array([f0**2, 2 * f0 * f1, 2 * (f1**2 + f0 * f2)])
            curves.append(times_cutoff(self._bare(distances, radii, factor, scale, contact), squared))
        return np.stack(curves, axis=2)[..., None]

    def summands(self, distances: np.ndarray) -> float:
        """Largest sum of absolute values of the terms of v, the scale of its rounding errors."""
        largest = 0.0
        for radii, factor, scale, contact in self._factors:
            covariances = self._share.bare_covariances(distances, radii, scale, contact)[0]
            parts = covariances * cho_solve((factor, True), covariances.T).T
            largest = max(largest, float(np.abs(parts).sum(axis=1).max()))
        return max(self._share.energy_scales) ** 2 + self.regularisation**2 + largest

    def _bare(
        self, distances: np.ndarray, radii: np.ndarray, factor: np.ndarray, scale: float, contact: float
    ) -> np.ndarray:
        covariances = self._share.bare_covariances(distances, radii, scale, contact)
        k0, k1, k2 = (solve_triangular(factor, c.T, lower=True) for c in covariances)
        values = scale**2 + self.regularisation**2 - np.sum(k0**2, axis=0)
        return np.array([values, -2 * np.sum(k0 * k1, axis=0), -2 * np.sum(k1**2 + k0 * k2, axis=0)])


@dataclass(frozen=True)
class KernelFeatures:
    """Functions phi_m with phi(r) . phi(r') = k((r - r') / length_scale) f_c(r) f_c(r') for 0 <= r <= cutoff, where r is a distance
    or a coordinate.

    A kernel repeated with a period large enough that the copies do not overlap is a Fourier series with positive coefficients, so
    cosines and sines are exact features. A rotation to their principal axes preserves all products and reduces the number of
    functions to the degrees of freedom of the kernel below the cutoff.
    """

    cutoff: float
    cutoff_width: float
    length_scale: float
    kernel: str = "gaussian"

    l_max = 0

    @property
    def n_max(self) -> int:
        return self._axes.shape[1]

    @cached_property
    def _waves(self) -> tuple[np.ndarray, np.ndarray]:
        """Wave numbers in 1/A and amplitudes."""
        spectrum = SPECTRA[self.kernel]
        period = self.cutoff + spectrum.apart * self.length_scale
        n_waves = int(np.ceil(spectrum.highest * period / (2 * np.pi * self.length_scale)))
        waves = 2 * np.pi / period * np.arange(n_waves + 1)
        strength = self.length_scale / period * spectrum.density(waves * self.length_scale)
        strength[1:] *= 2
        return waves, np.sqrt(strength)

    @cached_property
    def _axes(self) -> np.ndarray:
        """Principal axes (n_series, n_max) of the series between 0 and the cutoff."""
        spectrum = SPECTRA[self.kernel]
        places = np.linspace(0, self.cutoff, 64 + int(spectrum.highest * self.cutoff / self.length_scale))
        series = self._series(places)[0]
        axes = np.linalg.svd(series, full_matrices=False)[2].T
        left_out = np.cumsum(((series @ axes) ** 2)[:, ::-1], axis=1).max(axis=0)[::-1]
        return axes[:, left_out > spectrum.omitted]

    def _series(self, distances: np.ndarray) -> np.ndarray:
        """Cosines and sines with their derivatives, (3, n, n_series)."""
        waves, amplitudes = self._waves
        phase = np.multiply.outer(distances, waves)
        cosines, sines = amplitudes * np.cos(phase), amplitudes * np.sin(phase)
        both = [[cosines, sines], [-waves * sines, waves * cosines], [-(waves**2) * cosines, -(waves**2) * sines]]
        return np.array([np.concatenate(pair, axis=1) for pair in both])

    def evaluate(self, distances: np.ndarray) -> np.ndarray:
        """Values, slopes, curvatures (3, n, n_max, 1)."""
        step = cosine_cutoff(distances, self.cutoff, self.cutoff_width)
        return times_cutoff((self._series(distances) @ self._axes)[..., None], step)
