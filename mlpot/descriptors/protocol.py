"""What a descriptor is: features of every atom one way, the pullback of a cotangent the other way."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..neighbours import Pairs


class Descriptor(Protocol):
    """Maps neighbour pairs to features, and cotangents of features to pair gradients."""

    species: tuple[int, ...]
    cutoff: float
    n_features: int

    def compute(self, pairs: Pairs) -> np.ndarray:
        """Features (n_atoms, n_features)."""

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """dE/dvectors (n_pairs, 3) in eV/A from dE/dfeatures (n_atoms, n_features)."""
