"""Energies of an ensemble's members as quadratic forms of few directions of the features, where zeta = 2.

A member's energy p'M p, M = s^2 sum_k w_k p_k p_k', is a sum over all known points, whose terms cancel. In coordinates in which the
second moment of the known points is the unit matrix, the forms of all members lie nearly in a space of 48 of 108 dimensions, and
their coefficients have the size of the deviations themselves: single precision suffices. Relative to the deviations, errors of the
members' forces at test structures of Si, Mo and acetylacetone (`balanced`) are 0.02 to 0.04 with 36 dimensions and 0.001 to 0.002
with 48, and those of standard deviations half of that; all are smaller where atoms are shaken by 0.15 to 0.3 A.
"""

from __future__ import annotations

import numpy as np

from .._ext.core import TILE, packed_single

RIDGE = 1e-6
"""Added to the second moment, relative to its mean eigenvalue: directions that no point has would otherwise count without bound."""
MOST_DIRECT = 2**16
"""Largest number of entries of forms that lead to the features at once, 256 kB; from memory farther away, two steps are faster."""
NEAREST = 8
"""Number of points that each point is compared with."""


def steps_to_nearest(features: np.ndarray) -> np.ndarray:
    """Differences (n, NEAREST, n_features) of each point's features (n, n_features) to those of the nearest points."""
    nearest = np.argsort(-(features @ features.T), axis=1)[:, 1 : 1 + NEAREST]
    return features[nearest] - features[:, None, :]


def form_tables(
    features: np.ndarray, weights: np.ndarray, energy_scale: float, n_features: int, tolerance: float
) -> dict[str, np.ndarray]:
    """Tables m.axes, m.forms, m.back of the core, if there are too many features to do without, and in m.sizes the number of axes.

    Parameters
    ----------
    features : (n_known, n_all) array
        Of the known points, the constant included.
    weights : (n_known, N_MEMBERS) array
        1/eV.
    energy_scale : float
        eV.
    n_features : int
        Leading features whose slopes are wanted.
    tolerance : float
        Estimated relative error of the members' slopes from point to point; the actual error of forces is about ten times larger.
    """
    _, sizes, span = np.linalg.svd(features, full_matrices=False)
    scale = np.sqrt(sizes**2 + RIDGE * np.mean(sizes**2))
    points = features @ span.T
    forms = 2.0 * energy_scale**2 * np.einsum("sf,sm,sg->mfg", points, weights, points, optimize=True)
    whitened = scale[:, None] * forms * scale
    both = np.einsum("mfg,mhg->fh", whitened, whitened, optimize=True)
    axes = np.linalg.eigh(both)[1][:, ::-1]
    n_axes = _enough(points, forms, axes / scale[:, None], scale[:, None] * axes, tolerance)
    axes = axes[:, :n_axes]
    small, padded = axes.T @ whitened @ axes, -(-n_axes // TILE) * TILE
    rest, inward = padded - n_axes, (axes / scale[:, None]).T @ span
    inward = np.pad(inward, ((0, rest), (0, 0)))
    small = np.pad(small, ((0, 0), (0, rest), (0, rest)))
    back = np.ascontiguousarray(inward[:, :n_features].T)
    tables = {"m.sizes": np.array([padded]), "m.axes": packed_single(inward)}
    if small.size // padded * n_features > MOST_DIRECT:
        tables["m.back"] = packed_single(back)
    else:
        small = back @ small
    return tables | {"m.forms": np.concatenate([packed_single(form) for form in small])}


def _enough(points: np.ndarray, forms: np.ndarray, back: np.ndarray, axes: np.ndarray, tolerance: float) -> int:
    """Number of axes with which slopes of the energies from each point to the nearest are right to the tolerance."""
    steps = steps_to_nearest(points)

    def slopes(own: np.ndarray) -> np.ndarray:
        gradients = points @ own
        gradients -= np.einsum("maf,af->ma", gradients, points)[:, :, None] * points
        return gradients.transpose(1, 0, 2) @ steps.transpose(0, 2, 1)

    exact = slopes(forms)
    allowed = tolerance * np.linalg.norm(exact)
    for n in range(TILE, axes.shape[1], TILE):
        first = axes[:, :n]
        if np.linalg.norm(slopes(back[:, :n] @ (first.T @ forms @ first) @ back[:, :n].T) - exact) < allowed:
            return n
    return axes.shape[1]
