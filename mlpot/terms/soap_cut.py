"""A collapsed kernel at lower rank: the quadratic form of a many-body term, cut in the metric of the data.

For zeta = 2 the energy is p'A p with A = sum_s w_s p_s p_s'. The directions of A that environments hardly ever have are many: the
form is diagonalised in the metric of the second moment M = L L' of the sparse points and a lone atom,

    L'A L = U Lambda U',        A ~ sum_k v_k v_k' / lambda_k,   v_k = A L u_k   for the largest |lambda_k|,

and the rank is the smallest whose forces on shaken environments of the data differ by less than the tolerance: it is measured.
Energies of lone atoms, from which all others are counted, weigh as much as the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from .._ext.core import TILE, Density, PairView, Points
from ..descriptors.density import SoapDescriptor
from ..neighbours import Pairs, find_pairs
from ..threads import n_threads

REACH, LONE_REACH = 0.05, 0.01
"""Energies of shaken environments, and of lone atoms, may change by the tolerance of the forces times these distances, A: all atoms
of a structure are counted from lone ones, so that their changes add up."""
NEGLIGIBLE = 1e-13
"""Eigenvalue of the second moment, relative to the largest, that is round-off."""


@dataclass(frozen=True)
class Cut:
    """Largest difference of the compiled kernel of a term from the fitted one.

    Parameters
    ----------
    force_error : float
        Root mean square of the change of the forces on the environments, eV/A.
    pairs : Pairs
        Shaken environments, from `Witnesses.shaken`.
    """

    force_error: float
    pairs: Pairs

    def centres(self, number: int) -> np.ndarray:
        """Indices (n,) of the environments of an element."""
        has_neighbours = np.diff(self.pairs.offsets) > 0
        return np.flatnonzero((self.pairs.numbers == number) & has_neighbours).astype(np.int32)


@dataclass(frozen=True)
class Judge:
    """Compares points on the environments of one element.

    Parameters
    ----------
    core : Density
        Computes the features of the points.
    view : PairView
        View of `pairs`.
    pairs : Pairs
    centres : (n,) int32 array
    lone : (1, n_features) array
        Features of a lone atom.
    force_error : float
        See `Cut`.
    """

    core: Density
    view: PairView
    pairs: Pairs
    centres: np.ndarray
    lone: np.ndarray
    force_error: float

    @classmethod
    def on(cls, core: Density, descriptor: SoapDescriptor, cut: Cut, number: int) -> Judge:
        """Judge for the centres of an element, whose features `core` computes."""
        atom = find_pairs(Atoms([number]), descriptor.cutoff)
        lone = core.features(descriptor.view(atom), np.zeros(1, np.int32), 1)
        return cls(core, descriptor.view(cut.pairs), cut.pairs, cut.centres(number), lone, cut.force_error)

    def evaluate(
        self, features: np.ndarray, weights: np.ndarray, energy_scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies of the environments and of a lone atom (n + 1,) in eV, and pair gradients (n_pairs, 3) in eV/A."""
        points = Points(features, weights, energy_scale, 2.0)
        energies, gradients = np.zeros(self.pairs.n_atoms), np.zeros((self.pairs.n_pairs, 3))
        self.core.local_energies(self.view, self.centres, points, energies, gradients, n_threads())
        lone = energy_scale**2 * (self.lone @ features.T) ** 2 @ weights
        return np.append(energies[self.centres], lone), gradients

    def change(self, tried: tuple[np.ndarray, np.ndarray], exact: tuple[np.ndarray, np.ndarray]) -> float:
        """Root mean square change of a force component, eV/A, or of an energy over its reach if that is larger.

        Both arguments are from `evaluate`. A force has the part of the atom's own energy, and parts of as many neighbours' energies
        as there are in its environment, which are taken to be independent and like these.
        """
        change, energies = tried[1] - exact[1], tried[0] - exact[0]
        starts = self.pairs.offsets[self.centres]
        forces = np.mean(np.add.reduceat(change, starts, axis=0) ** 2 + np.add.reduceat(change**2, starts, axis=0))
        return float(np.sqrt(max(forces, np.mean(energies[:-1] ** 2) / REACH**2, energies[-1] ** 2 / LONE_REACH**2)))


def cut_points(
    features: np.ndarray, weights: np.ndarray, energy_scale: float, judge: Judge
) -> tuple[np.ndarray, np.ndarray]:
    """The fewest points, and their weights, that change forces by less than the judge allows; the given ones if no fewer do."""
    if len(features) <= TILE or not len(judge.centres):
        return features, weights
    vectors, strengths = data_axes(features, weights, np.sqrt(len(features)) * judge.lone)
    ranks = np.arange(TILE, min(len(vectors), len(features) - 1) + 1, TILE)
    exact = judge.evaluate(features, weights, energy_scale)
    low, high = 0, len(ranks)
    while low < high:
        middle = (low + high) // 2
        tried = judge.evaluate(vectors[: ranks[middle]], strengths[: ranks[middle]], energy_scale)
        if judge.change(tried, exact) < judge.force_error:
            high = middle
        else:
            low = middle + 1
    if low == len(ranks):
        return features, weights
    return vectors[: ranks[low]].copy(), strengths[: ranks[low]].copy()


def data_axes(features: np.ndarray, weights: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors v_k (n, n_features) and 1 / lambda_k (n,), largest |lambda_k| first.

    Parameters
    ----------
    features, weights : (n_points, n_features), (n_points,) arrays
        Points, which are also the data.
    beside : (n_beside, n_features) array
        Other environments that count in the metric.
    """
    data = np.concatenate([features, beside])
    # L = data' if the data are fewer than their features, else the symmetric root
    side = data.T if len(data) <= features.shape[1] else _root(data.T @ data)
    overlaps = features @ side
    values, vectors = np.linalg.eigh((overlaps.T * weights) @ overlaps)
    order = np.argsort(-np.abs(values), kind="stable")
    order = order[np.abs(values[order]) > NEGLIGIBLE * np.abs(values[order[0]])]
    left = (weights[:, None] * (overlaps @ vectors[:, order])).T @ features
    lengths = np.linalg.norm(left, axis=1)
    return left / lengths[:, None], lengths**2 / values[order]


def _root(square: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(square)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
