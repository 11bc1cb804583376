"""Kernel principal components of many environments, by a sketch of farthest points.

Coordinates of environment i are sum_m k(p_i, p_m) v_m / sqrt(lambda), with centred covariances of M sketch points p_m whose
eigenpairs are lambda, v (Nystroem): Schoelkopf, Smola, Mueller, Neural Comput. 10, 1299 (1998), doi:10.1162/089976698300017467.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..report.environment_map import kernel_components

SKETCH = 300
"""Farthest points that stand for all environments."""
N_COMPONENTS = 6
ZETA = 2
"""Exponent of the kernel (p . p')^zeta of normalised features."""
SAMPLE, N_DIRECTIONS = 2000, 48
"""Environments whose principal directions shorten the search for farthest points, and the number of these directions."""
CHUNK = 20_000
N_NEAR = 8


@dataclass(frozen=True)
class Embedding:
    """Environments in the plane of their largest differences.

    Parameters
    ----------
    places : (n, N_COMPONENTS) array
        Coordinates, in units of the kernel's feature space.
    explained : (N_COMPONENTS,) array
        Part of the variance of the sketch along each.
    sketch : (n_sketch,) int array
        Farthest points, in the order in which they were chosen: each is the environment farthest from all before it.
    remoteness : (n,) array
        Distance to the nearest environment of another group.
    """

    places: np.ndarray
    explained: np.ndarray
    sketch: np.ndarray
    remoteness: np.ndarray


def normalised(features: np.ndarray) -> np.ndarray:
    """Features (n, n_features) of norm 1: as they are if they have one norm, else standardised, with a constant appended."""
    norms = np.linalg.norm(features, axis=1)
    if norms.min(initial=np.inf) > 0 and norms.max() < norms.min() * (1 + 1e-3):
        return features / norms[:, None]
    deviation = features.std(axis=0)
    scale = np.maximum(deviation, max(1e-2 * float(deviation.max(initial=0.0)), 1e-12)) * np.sqrt(features.shape[1])
    shifted = np.hstack([(features - features.mean(axis=0)) / scale, np.full((len(features), 1), 3.0)])
    return shifted / np.linalg.norm(shifted, axis=1, keepdims=True)


def embed(features: np.ndarray, groups: np.ndarray, seed: int = 0) -> Embedding:
    """Embed environments.

    Parameters
    ----------
    features : (n, n_features) array
        See `normalised`.
    groups : (n,) int array
        The structure of each.
    """
    rng = np.random.default_rng(seed)
    sketch = farthest(_shortened(features, rng), min(SKETCH, len(features)))
    points = features[sketch]
    kernel = (points @ points.T) ** ZETA
    means, n = kernel.mean(axis=0), min(N_COMPONENTS, len(sketch))
    sizes, vectors, explained = kernel_components(kernel, n)
    kept = sizes > 1e-12 * max(float(sizes.max(initial=0)), 1e-300)
    weights = np.where(kept, vectors / np.sqrt(np.where(kept, sizes, 1.0)), 0.0)
    places = np.zeros((len(features), N_COMPONENTS))
    for begin in range(0, len(features), CHUNK):
        part = slice(begin, begin + CHUNK)
        own = (features[part] @ points.T) ** ZETA
        places[part, :n] = (own - own.mean(axis=1, keepdims=True) - means + means.mean()) @ weights
    explained = np.concatenate([explained, np.zeros(N_COMPONENTS - n)])
    return Embedding(places, explained, sketch, remoteness(places, groups))


def farthest(points: np.ndarray, n: int) -> np.ndarray:
    """Indices (n,) of points (n_points, n_dimensions), each the farthest from all before it, the first the farthest from the mean."""
    squares = np.sum((points - points.mean(axis=0)) ** 2, axis=1)
    norms = np.sum(points**2, axis=1)
    chosen = [int(np.argmax(squares))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < n:
        last = points[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(norms - 2 * points @ last + last @ last, 0))
        nearest[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def remoteness(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Distance (n,) of every point to the nearest one of another group among its nearest; the farthest of these if there is none."""
    n_near = min(N_NEAR, len(places))
    if n_near < 2:
        return np.zeros(len(places))
    distances, found = cKDTree(places).query(places, n_near)
    foreign = groups[found] != groups[:, None]
    return np.where(foreign, distances, distances[:, -1:]).min(axis=1)


def _shortened(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Features along their principal directions on a sample, single precision."""
    n = min(N_DIRECTIONS, *features.shape)
    some = features[rng.permutation(len(features))[:SAMPLE]]
    middle = some.mean(axis=0)
    directions = np.linalg.svd(some - middle, full_matrices=False)[2][:n]
    return ((features - middle) @ directions.T).astype(np.float32)
