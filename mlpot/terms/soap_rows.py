"""Tables of a many-body term for rows of the design matrix: packed sparse points with the relevant features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._ext.core import Density, SparsePoints
from ..descriptors.density import SoapDescriptor
from ..descriptors.reduction import all_but_least, reduced
from .soap_compiled import cached_compact

UNSEEN = 1e-12
"""Largest allowed change of overlaps; for comparison, K_mm has a relative jitter of 1e-8."""


@dataclass(frozen=True)
class SpeciesRows:
    """Tables for the centres of one element.

    Parameters
    ----------
    number : int
        Atomic number.
    columns : slice
        Columns of its sparse points among all sparse points of the term.
    core : Density
        Tables that compute the features.
    points : SparsePoints
    """

    number: int
    columns: slice
    core: Density
    points: SparsePoints


def make_soap_rows(
    descriptor: SoapDescriptor, sparse_features: tuple[np.ndarray, ...], energy_scales: tuple[float, ...], zeta: float
) -> tuple[SpeciesRows, ...]:
    """Make one entry per element with sparse points, from their features (n_sparse, n_features)."""
    compact = cached_compact(descriptor)
    rows, begin = [], 0
    for number, features, scale in zip(descriptor.species, sparse_features, energy_scales, strict=True):
        columns = slice(begin, begin + len(features))
        begin += len(features)
        if not len(features):
            continue
        turned = compact.rotate(features)
        kept = _seen(turned, compact.largest)
        points = SparsePoints(reduced(compact, turned, kept), scale, zeta)
        rows.append(SpeciesRows(number, columns, compact.core(kept), points))
    return tuple(rows)


def _seen(features: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Indices of rotated features (n, n_rotated) that contribute to overlaps with any environment, where they are at most `largest`.

    Features that are zero in all sparse points still contribute to the norm of other environments.
    """
    parts = np.abs(features).max(axis=0) * largest + 0.5 * largest**2
    return np.sort(all_but_least(parts, UNSEEN))
