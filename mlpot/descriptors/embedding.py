"""Similarity of elements for a density of mixed channels, from the weight vector of every element."""

from __future__ import annotations

import numpy as np

from .periodic import similarities

NOISE = 1e-3
"""Fraction of the variance of the weights that is independent of the periodic table: it prevents small differences between known
elements from being extrapolated far beyond them."""


def element_similarities(weights: np.ndarray) -> np.ndarray:
    """Cosine similarities (n_species, n_species) of elements, 1 for elements with proportional weights in all channels.

    Parameters
    ----------
    weights : (n_channels, n_species, n_max) array
        As in `Reduction`; `descriptor.weights` of a model's term.
    """
    vectors = _unit_vectors(weights)
    return vectors @ vectors.T


def element_map(weights: np.ndarray, n_axes: int = 2) -> np.ndarray:
    """Principal components (n_species, n_axes) of the elements' unit vectors; 0 beyond the rank.

    The distances of a map with all axes are sqrt(2 - 2 cos) of `element_similarities`. The largest entry of every axis is
    positive.
    """
    vectors = _unit_vectors(weights)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    components = (left * sizes)[:, :n_axes]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    components = components * np.where(largest < 0, -1.0, 1.0)
    return np.pad(components, ((0, 0), (0, n_axes - components.shape[1])))


def weights_of_unseen(weights: np.ndarray, species: tuple[int, ...], unseen: tuple[int, ...]) -> np.ndarray:
    """Weights (n_channels, n_unseen, n_max) of elements for which a mixing was not made.

    They are draws of a Gaussian process over the periodic table with the covariance of `similarities`, conditional on the known
    weights: an element similar to known ones gets similar weights, and the undetermined part is random, as for independent elements.
    Each element has its own random stream.

    Parameters
    ----------
    weights : (n_channels, n_species, n_max) array
    species, unseen : tuple of int
        Atomic numbers.

    Raises
    ------
    ConfigError
        If the properties of an element are not known.
    """
    among = similarities(species, species) + NOISE * np.eye(len(species))
    shares = np.linalg.solve(among, similarities(species, unseen))
    untold = np.maximum(1.0 - np.einsum("zu,zu->u", shares, similarities(species, unseen)), 0.0)
    size = np.sqrt(np.mean(weights**2, axis=1))
    draws = np.stack([np.random.default_rng(number).standard_normal(size.shape) for number in unseen], axis=1)
    return np.einsum("qzn,zu->qun", weights, shares) + np.sqrt(untold)[:, None] * size[:, None] * draws


def _unit_vectors(weights: np.ndarray) -> np.ndarray:
    vectors = weights.transpose(1, 0, 2).reshape(weights.shape[1], -1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
