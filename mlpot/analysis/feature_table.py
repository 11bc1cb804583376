"""Features of structures as tables, per atom or per structure, with derivatives by positions and strain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from ..descriptors.density import species_indices
from ..errors import DescriptorError, MlpotError
from ..neighbours import Pairs, find_pairs
from ..structures import name_of
from .sources import FeatureSource

Per = Literal["atom", "mean", "sum"]
"""Rows of a table: one per atom, or one per structure, the mean or the sum over its atoms."""


@dataclass(frozen=True)
class Jacobian:
    """Derivatives of the rows of a table by the positions of atoms.

    Parameters
    ----------
    row, atom : (n_entries,) int arrays
        Row of the structure's table, and atom that moves, counted from 0 in the structure; sorted. All others are zero.
    values : (n_entries, 3, n_features) array
        d features[row] / d positions[atom], 1/A. A periodic image moves together with its atom.
    strain : (n_rows, 3, 3, n_features) array
        d features[row] / d strain, symmetrised.
    """

    row: np.ndarray
    atom: np.ndarray
    values: np.ndarray
    strain: np.ndarray


@dataclass(frozen=True)
class FeatureRows:
    """Features of a structure: (n_rows, n_features), and their derivatives if requested."""

    features: np.ndarray
    jacobian: Jacobian | None


def feature_rows(
    source: FeatureSource, frames: Sequence[Atoms], per: Per = "atom", jacobian: bool = False
) -> Iterator[FeatureRows]:
    """Features of structures, one after the other.

    Parameters
    ----------
    source : FeatureSource
    frames : sequence of ase.Atoms
    per : "atom", "mean" or "sum"
    jacobian : bool
        Compute derivatives too.

    Raises
    ------
    UnknownSpeciesError, StructureError, DescriptorError
        For elements that the source does not know, atoms that overlap, features that are not finite; with the structure's name.
    """
    for k, atoms in enumerate(frames):
        try:
            yield _rows(source, atoms, per, jacobian)
        except MlpotError as error:
            raise type(error)(f"{name_of(atoms, f'structure {k}')}: {error}") from error


def _rows(source: FeatureSource, atoms: Atoms, per: Per, jacobian: bool) -> FeatureRows:
    pairs = find_pairs(atoms, source.cutoff)
    species_indices(pairs.numbers, source.species)
    features = source.descriptor.compute(pairs)
    if features.shape != (len(atoms), source.n_features) or not np.all(np.isfinite(features)):
        raise DescriptorError("features have a wrong shape or are not finite; see mlpot.validate_descriptor")
    slopes = _by_positions(pairs, source.descriptor.jacobian(pairs)) if jacobian else None
    if per == "atom":
        return FeatureRows(features, slopes)
    share = 1 / len(atoms) if per == "mean" else 1.0
    total = None if slopes is None else _added(slopes, len(atoms), share)
    return FeatureRows(share * features.sum(axis=0, keepdims=True), total)


def _by_positions(pairs: Pairs, by_pair: np.ndarray) -> Jacobian:
    """Sort derivatives (n_pairs, 3, n_features) by vectors into derivatives by positions: a vector is r_j - r_i."""
    n, i, j = pairs.n_atoms, pairs.i.astype(int), pairs.j.astype(int)
    keys = np.concatenate([i * n + j, i * n + i])
    kept, place = np.unique(keys, return_inverse=True)
    values = np.zeros((len(kept), *by_pair.shape[1:]))
    np.add.at(values, place[: len(i)], by_pair)
    np.subtract.at(values, place[len(i) :], by_pair)
    strain = np.zeros((n, 3, 3, by_pair.shape[2]))
    np.add.at(strain, i, pairs.vectors[:, :, None, None] * by_pair[:, None, :, :])
    return Jacobian(kept // n, kept % n, values, 0.5 * (strain + strain.transpose(0, 2, 1, 3)))


def _added(jacobian: Jacobian, n_atoms: int, share: float) -> Jacobian:
    """Derivatives of the sum over all rows, times `share`; every atom is listed."""
    values = np.zeros((n_atoms, *jacobian.values.shape[1:]))
    np.add.at(values, jacobian.atom, jacobian.values)
    every = np.arange(n_atoms)
    return Jacobian(np.zeros(n_atoms, int), every, share * values, share * jacobian.strain.sum(axis=0, keepdims=True))
