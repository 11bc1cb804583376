"""A map of environments: the two directions in which they differ most, as the kernel of the model sees it.

Kernel principal components: with the centred covariances C = H K H = V Lambda V' of n environments, K_ij = k(p_i . p_j), the
coordinates of environment i are V_i1 sqrt(Lambda_1), V_i2 sqrt(Lambda_2). Schoelkopf, Smola, Mueller, Neural Comput. 10, 1299
(1998), doi:10.1162/089976698300017467.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.linalg import eigh

from ..neighbours import find_pairs
from ..terms.protocol import ManyBodyTerm

MOST = 1000
"""Environments of labels on a map, and as many of trajectories."""


@dataclass(frozen=True)
class EnvironmentMap:
    """Environments of one element.

    Parameters
    ----------
    number : int
        Atomic number of the centres.
    labelled, visited : (n, 2), (m, 2) arrays
        Coordinates of environments of labels and of trajectories.
    label : (n,) int array
        Which label each of the first is from, counted from 0.
    least_certain : (n,) bool array
        Whether it was the one in its structure that the model was least certain of.
    explained : (float, float)
        Part of the variance along the two directions.
    """

    number: int
    labelled: np.ndarray
    visited: np.ndarray
    label: np.ndarray
    least_certain: np.ndarray
    explained: tuple[float, float]


def environment_map(
    term: ManyBodyTerm,
    number: int,
    labels: Sequence[Atoms],
    least_certain: Sequence[int | None],
    visited: Sequence[Atoms],
    seed: int = 0,
) -> EnvironmentMap | None:
    """The map of one element; of many environments some are drawn, the least certain ones always. None of fewer than three.

    Parameters
    ----------
    term : ManyBodyTerm
        Whose kernel it is.
    number : int
        Atomic number.
    labels : sequence of ase.Atoms
    least_certain : sequence of int or None
        Index of an atom for each of them.
    visited : sequence of ase.Atoms
        Frames of trajectories.
    """
    rng = np.random.default_rng(seed)
    marked: list[set[int]] = [set() if atom is None else {atom} for atom in least_certain]
    centres = _drawn(labels, number, marked, rng)
    label = np.repeat(np.arange(len(labels)), [len(some) for some in centres])
    least = [atom in marks for some, marks in zip(centres, marked, strict=True) for atom in some.tolist()]
    others = _drawn(visited, number, [set()] * len(visited), rng)
    features = np.concatenate([_features(term, labels, centres), _features(term, visited, others)])
    if len(features) < 3:
        return None
    sizes, vectors, explained = kernel_components(term.kernel.value(features @ features.T), 2)
    places = vectors * np.sqrt(sizes)
    return EnvironmentMap(
        number, places[: len(label)], places[len(label) :], label, np.array(least, bool), tuple(explained.tolist())
    )  # fmt: skip


def _drawn(
    structures: Sequence[Atoms], number: int, marked: Sequence[set[int]], rng: np.random.Generator
) -> list[np.ndarray]:
    """Indices of atoms of an element in every structure, about `MOST` in all, those that are marked among them."""
    most = max(MOST // max(len(structures), 1), 1)
    chosen = []
    for atoms, marks in zip(structures, marked, strict=True):
        own = np.flatnonzero(atoms.numbers == number)
        first = np.array([atom for atom in own if atom in marks], int)
        rest = rng.permutation(np.setdiff1d(own, first))[: max(most - len(first), 0)]
        chosen.append(np.sort(np.concatenate([first, rest])))
    return chosen


def _features(term: ManyBodyTerm, structures: Sequence[Atoms], centres: Sequence[np.ndarray]) -> np.ndarray:
    found = [
        term.features.compute(find_pairs(atoms, term.cutoff), own)
        for atoms, own in zip(structures, centres, strict=True)
        if len(own)
    ]
    return np.concatenate([np.empty((0, term.features.n_features)), *found])


def kernel_components(kernel: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading principal components of a kernel matrix (n_points, n_points).

    Returns
    -------
    (n,), (n_points, n), (n,) arrays
        Eigenvalues of the centred matrix, the largest first; its eigenvectors, whose largest elements are positive; and the part of
        the variance along each.
    """
    means = kernel.mean(axis=0)
    centred = kernel - means - means[:, None] + means.mean()
    sizes, vectors = eigh(centred, subset_by_index=(len(kernel) - n, len(kernel) - 1))
    sizes, vectors = np.maximum(sizes[::-1], 0.0), vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(n)])
    return sizes, vectors, sizes / max(float(np.trace(centred)), 1e-300)
