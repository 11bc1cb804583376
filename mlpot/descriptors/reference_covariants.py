"""Slow NumPy twin of the compiled covariants: couplings from integrals of three harmonics, derivatives by finite differences.

By the theorem of Wigner and Eckart, integrals of three real harmonics are proportional to Clebsch-Gordan coefficients for every
triple of degrees with an even sum, so no formula or constant is shared with `couplings`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..neighbours import Pairs
from .density import SoapDescriptor
from .reference import expansion, real_spherical_harmonics


@lru_cache(maxsize=256)
def integrals(l1: int, l2: int, l: int) -> np.ndarray:
    """Integrals (2 l1 + 1, 2 l2 + 1, 2l + 1) of three real harmonics over the sphere, scaled such that the squares for every order
    of l add up to 1; Gauss-Legendre in cos(theta) and equal steps in phi are exact here."""
    n = l1 + l2 + l + 1
    heights, weights = np.polynomial.legendre.leggauss(n)
    angles = 2 * np.pi * np.arange(2 * n) / (2 * n)
    z, phi = (grid.ravel() for grid in np.meshgrid(heights, angles, indexing="ij"))
    flat = np.sqrt(1 - z**2)
    harmonics = real_spherical_harmonics(max(l1, l2, l), np.array([flat * np.cos(phi), flat * np.sin(phi), z]).T)
    shells = [harmonics[:, degree**2 : (degree + 1) ** 2] for degree in (l1, l2, l)]
    found = np.einsum("g,ga,gb,gc->abc", np.repeat(weights, 2 * n), *shells)
    return found / np.sqrt(np.sum(found**2, axis=(0, 1)))


def covariants(descriptor: SoapDescriptor, pairs: Pairs, order: int) -> np.ndarray:
    """All ordered couplings (n_atoms, 2 order + 1, n) of whole densities, or of the pairs of a reduction.

    Products summed over the features equal the compiled ones; the features are in another order, and occur twice where the compiled
    ones have a factor of sqrt(2).
    """
    c, rows = expansion(descriptor, pairs), []
    l_max, n_channels, reduction = descriptor.basis.l_max, c.shape[1], descriptor.reduction
    for l1 in range(l_max + 1):
        for l2 in range(l_max + 1):
            if (l1 + l2 + order) % 2 or not abs(l1 - l2) <= order <= l1 + l2:
                continue
            first, second = c[:, :, l1 * l1 : (l1 + 1) ** 2], c[:, :, l2 * l2 : (l2 + 1) ** 2]
            every = np.einsum("nax,nby,xym->nmab", first, second, integrals(l1, l2, order))
            if reduction is None:
                rows.append(every.reshape(*every.shape[:2], n_channels**2))
            else:
                rows.append(every[:, :, reduction.a, reduction.b] * reduction.scale)
    return np.concatenate(rows, axis=2)
