"""Features of the labels of a target: leading directions of environments, and features summed as labels are.

The directions have the largest mean squares in the data, without subtracting a mean: the best approximation of the kernel by so
few. What they leave of its variance is kept with the features, so that deviations know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from ase import Atoms

from ..data.target_labels import TargetLabels
from ..descriptors.density import SoapDescriptor
from ..descriptors.logarithmic_basis import PARAMETERS, target_basis
from ..descriptors.mixing import Mixing, make_reduction
from ..models.tensors import features_of
from ..neighbours import find_pairs
from ..settings.targets import CovariantTermSettings, TargetSettings
from ..terms.covariant import CovariantTerm, Directions, Surroundings, most_directions
from .accumulate import Progress

ENOUGH = 4000
"""Environments of an element from which directions are found, about."""
NEGLIGIBLE = 1e-12
"""Mean square of a direction relative to all that is rounding."""
MOST_ROWS = 3000
"""Rows that are kept in memory, whose span the weights are looked for in."""
DEFAULT_TERMS = (
    CovariantTermSettings(n_max=7, l_max=4, cutoff=3.0, own_weight=2.0),
    CovariantTermSettings(n_max=7, l_max=4, cutoff=7.0),
)
"""Terms of a target for which none are given."""


@dataclass(frozen=True)
class TargetFeatures:
    """Features of the labels of one spherical part.

    Parameters
    ----------
    terms : tuple of CovariantTerm
    labels : TargetLabels
        Their structures.
    per_atom : bool
    offsets : (n_structures + 1,) int array
        Rows of structure k are offsets[k]:offsets[k + 1].
    chosen : (n_chosen,) int array
        Rows that are kept, ascending: all, unless there are too many.
    features : (n_chosen, n_features) array
        Of the rows that are kept.
    outside : (n_rows, n_blocks) array
        Prior variance of all rows outside of the features, for scales of 1.
    below : (n_rows,) array or None
        The last feature of all rows, where a calculator gives one.
    """

    terms: tuple[CovariantTerm, ...]
    labels: TargetLabels
    per_atom: bool
    offsets: np.ndarray
    chosen: np.ndarray
    features: np.ndarray
    outside: np.ndarray
    below: np.ndarray | None = None

    @property
    def block_sizes(self) -> list[int]:
        """Features of every element of every term, and of a calculator."""
        return [size for term in self.terms for size in term.sizes] + [1] * (self.below is not None)

    def projected(self, basis: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features times `basis` (n_features, n) of all rows, and the squares (n_rows,) of the features times `scales`
        (n_features,)."""
        if len(self.chosen) == self.offsets[-1]:
            return self.features @ basis, np.sum((self.features * scales) ** 2, axis=1)
        found = np.empty((self.offsets[-1], basis.shape[1]))
        squares = np.empty(len(found))
        for k, atoms in enumerate(self.labels.frames):
            own, part = _rows(self.terms, atoms, self.per_atom)[0], slice(self.offsets[k], self.offsets[k + 1])
            own = own if self.below is None else np.column_stack([own, self.below[part]])
            found[part], squares[part] = own @ basis, np.sum((own * scales) ** 2, axis=1)
        return found, squares


def _rows(terms: Sequence[CovariantTerm], atoms: Atoms, per_atom: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features and variances outside of them of the rows of a structure."""
    around = Surroundings(find_pairs(atoms, max(term.descriptor.cutoff for term in terms)))
    found, outside = features_of(terms, around, per_atom)
    return found.reshape(-1, found.shape[-1]), outside.reshape(-1, outside.shape[-1])


@lru_cache(maxsize=32)
def make_descriptor(settings: CovariantTermSettings, species: tuple[int, ...]) -> SoapDescriptor:
    """The density of a term: the same object for equal settings, so that it is expanded once for several targets."""
    parameters = [getattr(settings, name) for name in PARAMETERS[settings.radial_basis]]
    basis = target_basis(settings.radial_basis, (settings.n_max, settings.l_max, settings.cutoff, settings.step), parameters)
    reduction = None
    if settings.n_channels is not None:
        mixing = Mixing(mix="both", n_channels=settings.n_channels, embedding="random")
        reduction = make_reduction(mixing, species, settings.n_max)
    return SoapDescriptor(species, basis, reduction=reduction)


def _leading(gram: np.ndarray, most: int) -> np.ndarray:
    """Orthonormal columns: the directions with the largest eigenvalues."""
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > NEGLIGIBLE * max(values[-1], 0.0))[::-1][:most]
    return np.ascontiguousarray(vectors[:, kept])


def _with_directions(
    term: CovariantTerm, frames: Sequence[Atoms], settings: CovariantTermSettings, rng: np.random.Generator
) -> CovariantTerm:
    """The term with the leading directions of a random part of all environments."""
    order, directions = rng.permutation(len(frames)), []
    for number in term.descriptor.species:
        n, squares, of_p = 0, 0.0, np.zeros((term.invariants.n_features,) * 2)
        of_q = np.zeros((term.covariants.n_features,) * 2)
        for k in order:
            if n >= ENOUGH or number not in frames[k].numbers:
                continue
            found = term.environments(Surroundings(find_pairs(frames[k], term.descriptor.cutoff)), number)
            norms = np.linalg.norm(found.p, axis=1, keepdims=True)
            p, q = found.p / np.sqrt(norms), (found.q / np.sqrt(norms)[:, None]).reshape(-1, len(of_q))
            n, squares = n + len(norms), squares + float(np.sum(norms**2))
            of_p, of_q = of_p + p.T @ p, of_q + q.T @ q
        size = float(np.sqrt(squares / max(n, 1))) or 1.0
        most = most_directions(settings.n_invariants, term.zeta)
        directions.append(Directions(_leading(of_p, most), _leading(of_q, settings.n_covariants), size))
    return replace(term, directions=tuple(directions))


def target_features(
    labels: TargetLabels, settings: TargetSettings, degree: int, seed: int, progress: Progress, below: np.ndarray | None = None
) -> TargetFeatures:
    """Directions and features of one part; `below` (n_rows,) is the feature of a calculator."""
    species = tuple(sorted({int(z) for atoms in labels.frames for z in atoms.numbers}))
    rng, per_atom = np.random.default_rng(seed), settings.per_atom
    terms = tuple(
        _with_directions(CovariantTerm(make_descriptor(own, species), degree, own.zeta), labels.frames, own, rng)
        for own in settings.terms or DEFAULT_TERMS
    )
    counts = [(2 * degree + 1) * (len(atoms) if per_atom else 1) for atoms in labels.frames]
    offsets = np.cumsum([0, *counts])
    chosen = np.sort(rng.permutation(offsets[-1])[:MOST_ROWS])
    kept, outside = [], []
    for k, atoms in enumerate(labels.frames):
        own, left = _rows(terms, atoms, per_atom)
        kept.append(own[chosen[(chosen >= offsets[k]) & (chosen < offsets[k + 1])] - offsets[k]])
        outside.append(left)
        progress(settings.name, k + 1, len(labels.frames))
    features, left = np.concatenate(kept), np.concatenate(outside)
    if below is not None:
        features, left = np.column_stack([features, below[chosen]]), np.column_stack([left, np.zeros(len(left))])
    return TargetFeatures(terms, labels, per_atom, offsets, chosen, features, left, below)
