"""Environments near those of the data, as further sparse points.

What a force label tells is the slope of the energy, and a few sparse points at the data alone cannot take every slope: a carbon
monoxide on a surface has one environment of carbon in every label. Points at strained and rattled copies of the data span these
directions. On CO/Cu(111) (EMT, 500 K, two seeds) runs with them took 44 and 27 labels, without them 54 and 39. Where the data have
many environments they are diverse enough by themselves, and nothing is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms

from ..neighbours import find_pairs
from ..terms.protocol import FittedTerm, ManyBodyTerm
from ..terms.selection import ExplainedVariance

ENOUGH = 100
"""Sparse points of an element up to which copies are asked: as many as represent all of them in uncertainties."""
COPIES = 4
STRAIN, RATTLE = 0.04, 0.15
"""Standard deviations of strain components and of displacements, A: a structure half molten, and what tools do to cells."""
FAR = 1e-4
"""Part of its prior variance that a copy's environment must add to the points there are."""


def perturbed(atoms: Atoms, rng: np.random.Generator) -> list[Atoms]:
    """Strained and rattled copies, of molecules rattled ones."""
    copies = []
    for _ in range(COPIES):
        strain = np.eye(3) + STRAIN * rng.standard_normal((3, 3))
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.set_cell(copy.cell.array @ strain, scale_atoms=False)
        copy.positions = copy.positions @ strain + RATTLE * rng.standard_normal(copy.positions.shape)
        copies.append(copy)
    return copies


def nearby(
    known: np.ndarray,
    frames: Iterable[Atoms],
    number: int,
    term: ManyBodyTerm,
    most: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Features (n, n_features) of at most so many environments of an element in copies of structures, those that the `known`
    points (n_known, n_features) explain least."""
    found = [np.empty((0, term.features.n_features))]
    for atoms in frames:
        for copy in perturbed(atoms, rng):
            centres = np.flatnonzero(copy.numbers == number)
            if len(centres):
                found.append(term.features.compute(find_pairs(copy, term.cutoff), centres))
    features = np.concatenate(found)
    if most <= 0 or not len(features):
        return features[:0]
    return features[ExplainedVariance.by(known, term.kernel).choose(features, most, FAR)]


def settled(term: FittedTerm, frames: Sequence[Atoms]) -> FittedTerm:
    """A term whose tables follow the environments of structures, where they are to: of the structures and, where their environments
    are few, also of copies, always the same ones."""
    if term.is_settled:
        return term
    chosen = list(frames)
    if sum(map(len, frames)) < ENOUGH:
        rng = np.random.default_rng(0)
        chosen += [copy for atoms in frames for copy in perturbed(atoms, rng)]
    return term.settled([find_pairs(atoms, term.cutoff) for atoms in chosen])
