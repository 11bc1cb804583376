"""Features as affine maps of sums that the compiled core computes, in this form for Python, C programs and LAMMPS.

    v = sums of all sources, one after the other        f = mask (A v) + shift        mask, shift: of the element of the centre
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array

from .._ext.core import Neighbourhood
from ..threads import n_threads


class Source(Protocol):
    """Sums over neighbours or triplets of every centre: a class of the core."""

    n_values: int

    def compute(self, near: Neighbourhood, n_threads: int) -> np.ndarray:
        """Sums (n_atoms, n_values)."""

    def add_vjp(self, near: Neighbourhood, cotangent: np.ndarray, pair_gradients: np.ndarray, n_threads: int) -> None:
        """Add the pullback of a cotangent (n_atoms, n_values) to pair_gradients (n_pairs, 3)."""

    def tables(self) -> dict[str, np.ndarray]:
        """Tables for the core, as `mlpot_read_source` reads them."""


@dataclass(frozen=True, eq=False)
class MappedSums:
    """Sums, and the features that are made of them.

    Parameters
    ----------
    sources : sequence of Source
    matrix : (n_features, n_values) sparse array or None
        A; None: the sums are the features.
    mask : (n_species, n_features) array or None
        1 for the features that centres of an element have, 0 for the others; None: all.
    shift : (n_species, n_features) array or None
        None: 0.
    """

    sources: Sequence[Source]
    matrix: csr_array | None = None
    mask: np.ndarray | None = None
    shift: np.ndarray | None = None

    def compute(self, near: Neighbourhood, kind: np.ndarray) -> np.ndarray:
        """Features (n_atoms, n_features) of atoms of these elements, as indices (n_atoms,) of species."""
        found = np.concatenate([source.compute(near, n_threads()) for source in self.sources], axis=1)
        if self.matrix is not None:
            found = np.ascontiguousarray((self.matrix @ found.T).T)
        if self.mask is not None:
            found = found * self.mask[kind]
        return found if self.shift is None else found + self.shift[kind]

    def add_vjp(self, near: Neighbourhood, kind: np.ndarray, cotangent: np.ndarray, pair_gradients: np.ndarray) -> None:
        """Add the pullback of a cotangent (n_atoms, n_features) to pair_gradients (n_pairs, 3)."""
        own = cotangent if self.mask is None else cotangent * self.mask[kind]
        if self.matrix is not None:
            own = (self.matrix.T @ own.T).T
        begin = 0
        for source in self.sources:
            part = np.ascontiguousarray(own[:, begin : begin + source.n_values], float)
            source.add_vjp(near, part, pair_gradients, n_threads())
            begin += source.n_values

    def map_of(self, kind: int) -> tuple[csr_array, np.ndarray]:
        """The matrix (n_features, n_values) and the shift (n_features,) of centres of one element."""
        n_values = sum(source.n_values for source in self.sources)
        matrix = eye_array(n_values, format="csr") if self.matrix is None else self.matrix
        if self.mask is not None:
            matrix = (diags_array(self.mask[kind]) @ matrix).tocsr()
        return matrix, np.zeros(matrix.shape[0]) if self.shift is None else self.shift[kind]
