"""How alike the elements are to a density of mixed channels: its weights seen as a vector for every element."""

from __future__ import annotations

import numpy as np


def element_similarities(weights: np.ndarray) -> np.ndarray:
    """Cosines (n_species, n_species) between elements, 1 for those that all channels take for the same.

    Parameters
    ----------
    weights : (n_channels, n_species, n_max) array
        As in `Reduction`; `descriptor.weights` of a model's term.
    """
    vectors = _unit_vectors(weights)
    return vectors @ vectors.T


def element_map(weights: np.ndarray, n_axes: int = 2) -> np.ndarray:
    """Principal components (n_species, n_axes) of the elements' unit vectors; 0 beyond as many as there are.

    The distances of a map with all axes are sqrt(2 - 2 cos) of `element_similarities`. The largest entry of every axis is
    positive.
    """
    vectors = _unit_vectors(weights)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    components = (left * sizes)[:, :n_axes]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    components = components * np.where(largest < 0, -1.0, 1.0)
    return np.pad(components, ((0, 0), (0, n_axes - components.shape[1])))


def _unit_vectors(weights: np.ndarray) -> np.ndarray:
    vectors = weights.transpose(1, 0, 2).reshape(weights.shape[1], -1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
