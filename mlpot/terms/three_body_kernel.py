"""Covariance function of triplet energies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TripletKernel:
    """Covariance function of triplet energies, and their sparse triplets.

    Parameters
    ----------
    species : tuple of int
        Sorted atomic numbers of the model.
    centre : int
        Atomic number of the central atom.
    neighbours : tuple of two int
        Atomic numbers of its two neighbours, in either order.
    cutoff, cutoff_width : float
        Cutoff of the distances from the centre, and width of its step, A.
    length_scales : (3,) array
        Length scales of the three coordinates: A, A^2, A.
    energy_scale : float
        Prior standard deviation of G, eV.
    sparse_coordinates : (n_sparse, 3) array
    sparse_cutoffs : (n_sparse,) array
        Product of the two cutoff functions of each sparse triplet.
    """

    species: tuple[int, ...]
    centre: int
    neighbours: tuple[int, int]
    cutoff: float
    cutoff_width: float
    length_scales: np.ndarray
    energy_scale: float
    sparse_coordinates: np.ndarray
    sparse_cutoffs: np.ndarray

    @property
    def n_sparse(self) -> int:
        return len(self.sparse_coordinates)

    @property
    def energy_scales(self) -> tuple[float, ...]:
        """The single energy scale."""
        return (self.energy_scale,)

    def covariance(self, coordinates: np.ndarray) -> np.ndarray:
        """Covariances Cov(G(x), G(x_s) f_c f_c) (n, n_sparse) in eV^2 for coordinates (n, 3)."""
        apart = (coordinates[:, None, :] - self.sparse_coordinates) / self.length_scales
        return self.energy_scale**2 * np.exp(-0.5 * np.sum(apart**2, axis=2)) * self.sparse_cutoffs

    def prior(self) -> list[np.ndarray]:
        """Blocks of K_mm, eV^2."""
        return [self.covariance(self.sparse_coordinates) * self.sparse_cutoffs[:, None]]
