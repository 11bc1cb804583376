"""What a many-body term needs for the rows of a design matrix: sparse points, packed, of the features that matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._ext.core import Density, SparsePoints
from ..descriptors.density import SoapDescriptor
from ..descriptors.reduction import all_but_least, reduced
from .soap_compiled import cached_compact

UNSEEN = 1e-12
"""Overlaps may change by so much; K_mm carries a relative jitter of 1e-8."""


@dataclass(frozen=True)
class SpeciesRows:
    """Of the centres of one element.

    Parameters
    ----------
    number : int
        Atomic number.
    columns : slice
        Its sparse points among those of the term.
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
    """One entry per element that has sparse points, whose features (n_sparse, n_features) are given."""
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
    """Rotated features (n, n_rotated) that have a part in overlaps with any environment, where they are `largest` at most.

    Those that no sparse point has are part of the norm of an environment that has them.
    """
    parts = np.abs(features).max(axis=0) * largest + 0.5 * largest**2
    return np.sort(all_but_least(parts, UNSEEN))
