"""Covariance function of pair potentials, the basis of rows, tables and ensembles.

u(r) has the covariance energy_scale^2 k((x - x') / length_scale) f_c(r) f_c(r') a(r) a(r'), independently for every pair of elements;
k is one of `CORRELATIONS`, x(r) is `bent`, a(r) is `short_range_growth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..descriptors.radial_basis import cosine_cutoff, times_cutoff
from .kernels import expanded


def species_pairs(species: tuple[int, ...]) -> list[tuple[int, int]]:
    """Unordered pairs of elements, in the order of the sparse radii of a pair term."""
    return [(a, b) for k, a in enumerate(species) for b in species[k:]]


@dataclass(frozen=True)
class PairKernel:
    """Covariance function of pair potentials, and their sparse radii.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers.
    cutoff, cutoff_width, length_scale : float
        A.
    energy_scales : tuple of float
        Prior standard deviation of u, eV, for every pair of elements; a single number applies to all.
    sparse_radii : tuple of (n_sparse,) arrays
        Sparse radii for each entry of `species_pairs(species)`, A; coordinates x if there are contacts.
    contacts : tuple of float
        Contact distance c of every pair of elements, A; empty: x = r, a = 1.
    repulsion_length : float
        Decay length of a(r), A; 0: a = 1.
    kernel : str
        Name of the correlation k in `CORRELATIONS`.
    """

    species: tuple[int, ...]
    cutoff: float
    cutoff_width: float
    length_scale: float
    energy_scales: tuple[float, ...]
    sparse_radii: tuple[np.ndarray, ...]
    contacts: tuple[float, ...] = ()
    repulsion_length: float = 0.0
    kernel: str = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy_scales", expanded(self.energy_scales, len(species_pairs(self.species))))

    @property
    def n_sparse(self) -> int:
        return sum(len(radii) for radii in self.sparse_radii)

    def contact(self, kind: int) -> float:
        """Contact distance c, A, of a pair of elements given by its index into `species_pairs`; 0: a = 1."""
        return self.contacts[kind] if self.contacts else 0.0

    def covariance(
        self, distances: np.ndarray, radii: np.ndarray, energy_scale: float, contact: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Covariances (n, m) of u(r) with the values at sparse radii, eV^2, and their derivatives by r (n, m), eV^2/A."""
        step, slope, _ = (part[:, None] for part in self.envelope(distances, contact))
        x, stretch, _ = bent(distances, contact)
        value, along = self.correlation(x[:, None] - radii, 1)
        factor = energy_scale**2 * self._at_radii(radii)
        along *= stretch[:, None] * step * factor
        along += value * (slope * factor)
        value *= step * factor
        return value, along

    def bare_covariances(
        self, distances: np.ndarray, radii: np.ndarray, energy_scale: float, contact: float
    ) -> np.ndarray:
        """Covariances without f_c(r) a(r) and their first two derivatives by r: (3, n, m)."""
        x, stretch, bend = (part[:, None] for part in bent(distances, contact))
        value, slope, curvature = self.correlation(x - radii, 2)
        found = np.array([value, slope * stretch, curvature * stretch**2 + slope * bend])
        return found * (energy_scale**2 * self._at_radii(radii))

    def correlation(self, apart: np.ndarray, order: int = 0) -> list[np.ndarray]:
        """k of differences of coordinates, A, of any shape, and `order` derivatives (at most two) by these."""
        found = CORRELATIONS[self.kernel](apart / self.length_scale, order)
        return [found[0], *(part / self.length_scale**n for n, part in enumerate(found[1:], 1))]

    def _at_radii(self, radii: np.ndarray) -> np.ndarray:
        """Factor of a covariance that belongs to its sparse radii: (m,), or (1,) where it is 1 for all."""
        return np.ones(1) if self.contacts else cosine_cutoff(radii, self.cutoff, self.cutoff_width)[0]

    def between_coordinates(self, first: np.ndarray, radii: np.ndarray, energy_scale: float) -> np.ndarray:
        """Covariances (n, m), eV^2, of the bare potential at coordinates with the values at sparse radii."""
        return energy_scale**2 * self.correlation(first[:, None] - radii)[0] * self._at_radii(radii)

    def envelope(self, distances: np.ndarray, contact: float) -> np.ndarray:
        """f_c(r) a(r) with its first two derivatives, (3, n)."""
        growth = short_range_growth(distances, contact if self.repulsion_length else 0.0, self.repulsion_length)
        return times_cutoff(growth, cosine_cutoff(distances, self.cutoff, self.cutoff_width))

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariances (n, m) of sparse radii of one pair of elements for an energy scale of 1 eV, eV^2."""
        return self.between_coordinates(first, second, 1.0) * self._at_radii(first)[:, None]

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""
        blocks = zip(self.energy_scales, self.sparse_radii, strict=True)
        return [scale**2 * self.between(radii, radii) for scale, radii in blocks if len(radii)]


def short_range_growth(distances: np.ndarray, contact: float, length: float) -> np.ndarray:
    """a(r) = 1 + exp((c^2 - r^2) / (2 c length)) with its first two derivatives, (3, n); 1 everywhere for a contact c of 0.

    At the contact a = 2, and a - 1 grows by a factor of e over `length` towards shorter distances, like the repulsion, whose decay
    length is about 0.3 A for all elements (Born and Mayer, Z. Phys. 75, 1 (1932), doi:10.1007/BF01340511); a stays finite at r = 0.
    """
    if not contact:
        return np.array([np.ones_like(distances), np.zeros_like(distances), np.zeros_like(distances)])
    rate = 1.0 / (contact * length)
    grown = np.exp(0.5 * rate * (contact**2 - distances**2))
    return np.array([1.0 + grown, -rate * distances * grown, rate * (rate * distances**2 - 1.0) * grown])


BEND = 0.5
"""Distance, relative to the contact, at which `bent` changes from linear to logarithmic. In a fit to 54 labels of CO on Cu(111) it
reduces the errors of C and O from 0.17 to 0.08 eV/A, and in a fit to 9 labels of Cu up to its melting point the error of Cu from
0.04 to 0.009 eV/A: a length scale short enough for the repulsive wall is too short for the tail, and a length scale that fits the
tail causes oscillations between the sparse points."""


def bent(distances: np.ndarray, contact: float) -> np.ndarray:
    """x(r) = (s^2 + c^2)^(1/2) asinh(r / s), s = c `BEND`, with its first two derivatives, (3, n).

    The slope is 1 at the contact c, so that length scales apply there; the effective length scale grows with r. x = r for c = 0.
    """
    r = np.asarray(distances, float)
    if not contact:
        return np.array([r, np.ones_like(r), np.zeros_like(r)])
    bend, stretch = bend_of(contact)
    root = np.sqrt(bend**2 + r**2)
    return np.array([stretch * np.arcsinh(r / bend), stretch / root, -stretch * r / root**3])


def bend_of(contact: float) -> tuple[float, float]:
    """Parameters s and (s^2 + c^2)^(1/2) of `bent`, A."""
    bend = BEND * contact
    return bend, float(np.hypot(bend, contact))


def gaussian(t: np.ndarray, order: int) -> list[np.ndarray]:
    """exp(-t^2 / 2) and its first `order` derivatives, at most two."""
    value = np.exp(-0.5 * t**2)
    return [value, *([-t * value] if order else []), *([(t**2 - 1.0) * value] if order > 1 else [])]


def matern(t: np.ndarray, order: int) -> list[np.ndarray]:
    """(1 + s + s^2 / 3) exp(-s), s = sqrt(5) |t|, smoothness 5/2, and its first `order` derivatives, at most two.

    M. L. Stein, Interpolation of Spatial Data (1999), doi:10.1007/978-1-4612-1494-6. Functions with this covariance have two
    derivatives, and what is known of them in one place says less about the next: a sharp bend does not ring elsewhere.
    """
    s = np.sqrt(5.0) * np.abs(t)
    decay = np.exp(-s)
    found = [(1.0 + s + s**2 / 3.0) * decay]
    if order:
        found.append(-5.0 / 3.0 * t * (1.0 + s) * decay)
    if order > 1:
        found.append(-5.0 / 3.0 * (1.0 + s - s**2) * decay)
    return found


CORRELATIONS: dict[str, Callable[[np.ndarray, int], list[np.ndarray]]] = {"gaussian": gaussian, "matern": matern}
"""Correlation k(t) with derivatives, by the name of the kernel."""
