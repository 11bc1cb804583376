"""Several descriptors as one, and terms without a descriptor as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ..descriptors.protocol import Descriptor
from ..neighbours import Pairs


@dataclass(frozen=True)
class StackedDescriptor(Descriptor):
    """The features of several descriptors of the same elements, side by side.

    Parameters
    ----------
    parts : tuple of Descriptor
    """

    parts: tuple[Descriptor, ...]

    @property
    def species(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.parts[0].species

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        return max(part.cutoff for part in self.parts)

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return sum(part.n_features for part in self.parts)

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Columns of every part."""
        ends = np.cumsum([0, *(part.n_features for part in self.parts)]).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    def feature_names(self) -> tuple[str, ...]:
        """See `Descriptor`."""
        return tuple(name for part in self.parts for name in part.feature_names())

    def compute(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        return np.concatenate([part.compute(pairs.within(part.cutoff)) for part in self.parts], axis=1)

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """See `Descriptor`."""
        out = np.zeros((pairs.n_pairs, 3))
        for part, columns in zip(self.parts, self.columns, strict=True):
            own = np.ascontiguousarray(cotangent[:, columns])
            out[pairs.distances < part.cutoff] += part.vjp(pairs.within(part.cutoff), own)
        return out

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        out = np.zeros((pairs.n_pairs, 3, self.n_features))
        for part, columns in zip(self.parts, self.columns, strict=True):
            out[pairs.distances < part.cutoff, :, columns] = part.jacobian(pairs.within(part.cutoff))
        return out


def stacked(parts: Sequence[Descriptor]) -> Descriptor:
    """One descriptor of several; a single one is returned as it is."""
    return parts[0] if len(parts) == 1 else StackedDescriptor(tuple(parts))


@dataclass(frozen=True)
class KernelFeatures(Descriptor):
    """Covariances of the local energies with the sparse points of a term that has no descriptor, such as a pair term.

    They are sums over neighbours (or pairs of neighbours) of radial (or triplet) functions centred at the sparse points, so a linear
    model of them is the term itself.

    Parameters
    ----------
    term : Term
        With sparse points.
    """

    term: Any

    @property
    def species(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.term.species

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        return self.term.cutoff

    @property
    def n_features(self) -> int:  # type: ignore[override]
        return self.term.n_sparse

    def compute(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        if hasattr(self.term, "covariances"):  # terms that a fit can use
            return self.term.covariances(pairs)
        return np.stack([self._one(pairs, k)[0] for k in range(self.n_features)], axis=1)

    def vjp(self, pairs: Pairs, cotangent: np.ndarray) -> np.ndarray:
        """See `Descriptor`."""
        return np.einsum("pxf,pf->px", self.jacobian(pairs), cotangent[pairs.i])

    def jacobian(self, pairs: Pairs) -> np.ndarray:
        """See `Descriptor`."""
        return np.stack([self._one(pairs, k)[1] for k in range(self.n_features)], axis=2)

    def _one(self, pairs: Pairs, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Local energies (n_atoms,) and pair gradients (n_pairs, 3) with weight 1 for one sparse point, 0 for all others."""
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        self.term.predict(pairs, np.eye(self.n_features)[k], energies, gradients)
        return energies, gradients
