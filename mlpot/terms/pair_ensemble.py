"""Tables of the members' slopes for an ensemble of weights in a pair term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .core_terms import kept
from .pair_compiled import CompiledPairTerm
from .pair_kernel import PairKernel

N_KNOTS = 1024
"""Number of knots; linear interpolation has an error of (cutoff / N_KNOTS / length_scale)^2 / 8 relative to slopes, about 1e-5."""
SHORTEST = 0.2
"""Distance, A, below which the ratio of slope to distance is constant; no atoms come this close."""


def pair_members(term: PairKernel, weights: np.ndarray) -> np.ndarray:
    """Tabulate a pair term with the weights (n_sparse, N_MEMBERS) of an ensemble, 1/eV.

    Returns
    -------
    (n_kinds, N_KNOTS + 1, N_MEMBERS) float32 array
        u'(r) / (2 r), eV/A^2, of every pair of elements with sparse radii, at equally spaced distances up to the cutoff; the last
        value is repeated.
    """
    radii = np.maximum(np.linspace(0.0, term.cutoff, N_KNOTS), SHORTEST)
    radii = np.append(radii, term.cutoff)
    tables, begin = [], 0
    for kind, (points, scale) in enumerate(zip(term.sparse_radii, term.energy_scales, strict=True)):
        own = weights[begin : begin + len(points)]
        begin += len(points)
        if len(points):
            slopes = term.covariance(radii, points, scale, term.contact(kind))[1] @ own
            tables.append(0.5 * slopes / radii[:, None])
    return np.array(tables, np.float32).reshape(len(tables), N_KNOTS + 1, weights.shape[1])


@dataclass(frozen=True)
class PairObserver:
    """Observer of a compiled pair term with the tables of `pair_members` and of `covariance_tables`; see `Observer`."""

    term: CompiledPairTerm
    along: np.ndarray
    covariances: Mapping[str, np.ndarray] = field(default_factory=dict)
    in_core: ClassVar[bool] = True
    served: ClassVar[frozenset[int]] = frozenset()

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `Observer`."""
        return self.term.core_tables() | kept({"m.knots": np.array([N_KNOTS]), "m.along": self.along} | dict(self.covariances))
