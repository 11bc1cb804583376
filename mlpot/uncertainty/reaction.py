"""Force errors passed on to neighbours by Newton's third law.

An error of the force on atom j appears with opposite sign on its neighbours. If it is a sum of independent pair errors, its variance
s_j^2 is shared among the neighbours, and the variance on atom i is at least its share from any neighbour j of another element:

    s_i^2  <-  max(s_i^2, c max_j w_ij / max(1, sum_k w_kj) s_j^2),     w_ij = exp(-2 max(r_ij - R_i - R_j, 0) / L)

with covalent radii R. c = 1.5, since errors of pairs on opposite sides of an atom cancel partly on that atom but not on its
neighbours. Neighbours of the same element share their calibration and are left out. Without this correction the errors of metal
atoms under a molecule, a few among many well-known ones, are two to three times the standard deviation stated for their element.

c and L = 0.8 A were determined on frames of eleven learning runs (CO, H2O and N on metals, alloys, NaCl, molecules): the fraction of
frames with the worst atom beyond three standard deviations fell from 0.08 to 0.02 on average, while the fraction of components
within one standard deviation stayed between 0.67 and 0.86. c = 1 and 4 leave 0.03 and 0.01, with up to 0.83 and 0.96 within one
standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from ..neighbours import Pairs
from .calibration import SYMMETRIC

DECAY = 0.8
"""L, A."""
CANCELLED = 1.5
"""c."""
REACH = 4.0
"""Distance beyond contact, in units of L, at which the weight is negligible: exp(-8)."""


@dataclass(frozen=True)
class Reactions:
    """Lower bounds of the force variances of atoms as shares of the variances of their neighbours.

    Parameters
    ----------
    i, j : (n,) int arrays
        Indices of atoms, and of the neighbours of another element whose variance they share.
    shares : (n,) array
        c w_ij / max(1, sum_k w_kj).
    """

    i: np.ndarray
    j: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs) -> Reactions:
        """Shares from all pairs closer than `REACH` times `DECAY` beyond contact and within the model's cutoff."""
        numbers = pairs.numbers
        if np.all(numbers == numbers[:1]):
            return cls(np.empty(0, int), np.empty(0, int), np.empty(0))
        radii = covalent_radii[numbers]
        gaps = pairs.distances - radii[pairs.i] - radii[pairs.j]
        near = np.flatnonzero(gaps < REACH * DECAY)
        i, j = pairs.i[near], pairs.j[near]
        weights = np.exp(-2.0 * np.maximum(gaps[near], 0.0) / DECAY)
        totals = np.maximum(np.bincount(j, weights, len(numbers)), 1.0)
        other = numbers[i] != numbers[j]
        return cls(i[other], j[other], CANCELLED * (weights / totals[j])[other])

    def added_to(self, forces_std: np.ndarray) -> np.ndarray:
        """Standard deviations (n_atoms, 3), eV/A, raised where they are below the share from a neighbour."""
        if not len(self.i):
            return forces_std
        own = np.mean(forces_std**2, axis=1)
        reactions = np.zeros(len(own))
        np.maximum.at(reactions, self.i, self.shares * own[self.j])
        # a force that vanishes by symmetry keeps a zero deviation
        told = own > SYMMETRIC**2
        factors = np.sqrt(np.maximum(reactions / np.where(told, own, 1.0), 1.0))
        return forces_std * np.where(told, factors, 1.0)[:, None]
