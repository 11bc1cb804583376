"""Covariance functions of environments; each in the one place where its formula stands."""

from __future__ import annotations

import numpy as np


def dot_product_kernel(first: np.ndarray, second: np.ndarray, energy_scale: float, zeta: float) -> np.ndarray:
    """energy_scale^2 (p . p')^zeta for normalised features (n, f) and (m, f): (n, m) eV^2."""
    overlap = first @ second.T
    if zeta != round(zeta):
        overlap = np.maximum(overlap, 0.0)
    return energy_scale**2 * overlap**zeta


def expanded(scales: float | tuple[float, ...], n_blocks: int) -> tuple[float, ...]:
    """One energy scale for every block, from one for all or from one for each."""
    if isinstance(scales, int | float | np.number):
        return (float(scales),) * n_blocks
    if len(scales) != n_blocks:
        raise ValueError(f"{len(scales)} energy scales for {n_blocks} blocks of sparse points")
    return tuple(map(float, scales))


def short_range_growth(distances: np.ndarray, contact: float, length: float) -> np.ndarray:
    """a(r) = 1 + exp((c^2 - r^2) / (2 c length)) with its first two derivatives, (3, n); 1 everywhere for a contact c of 0.

    At the contact a = 2, and it grows there by e over `length`: repulsion does, some 0.3 A in all elements (Born and Mayer, Z. Phys.
    75, 1 (1932), doi:10.1007/BF01340511), while nothing grows without limit where nuclei meet.
    """
    if not contact:
        return np.array([np.ones_like(distances), np.zeros_like(distances), np.zeros_like(distances)])
    rate = 1.0 / (contact * length)
    grown = np.exp(0.5 * rate * (contact**2 - distances**2))
    return np.array([1.0 + grown, -rate * distances * grown, rate * (rate * distances**2 - 1.0) * grown])


def squared_exponential(first: np.ndarray, second: np.ndarray, energy_scale: float, length_scale: float) -> np.ndarray:
    """energy_scale^2 exp(-(r - r')^2 / (2 length_scale^2)) for lengths (n,) and (m,) in A: (n, m) eV^2."""
    return energy_scale**2 * np.exp(-0.5 * ((first[:, None] - second) / length_scale) ** 2)
