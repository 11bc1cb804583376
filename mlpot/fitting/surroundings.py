"""Environments in strained and rattled copies of the data, as additional sparse points.

A force label provides the slope of the energy, and a few sparse points at the data cannot represent every slope: for a carbon
monoxide molecule on a surface, every label has a single carbon environment. Points at strained and rattled copies of the data span
the missing directions. On CO/Cu(111) (EMT, 500 K, two seeds) runs with them took 44 and 27 labels, without them 54 and 39. If the
data have many environments, these are diverse enough and no points are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms

from ..neighbours import find_pairs
from ..terms.protocol import FittedTerm, ManyBodyTerm
from ..terms.selection import ExplainedVariance

ENOUGH = 100
"""Copies are used for elements with fewer sparse points than this, the number that represents all of them in uncertainties."""
COPIES = 4
STRAIN, RATTLE = 0.04, 0.15
"""Standard deviations of strain components and of displacements, A: comparable to a partly molten structure and to usual cell
distortions."""
FAR = 1e-4
"""Smallest fraction of its prior variance that the other points must leave unexplained for an environment of a copy to be added."""


def perturbed(atoms: Atoms, rng: np.random.Generator) -> list[Atoms]:
    """Strained and rattled copies of a structure; molecules are only rattled."""
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
    """Features (n, n_features) of environments of an element in copies of structures, at most `most` of them.

    The environments that the `known` points (n_known, n_features) explain least are chosen.
    """
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
    """The term with tables determined from the environments of structures, if its settings ask for this.

    If there are few environments, copies of the structures are included; the copies are reproducible.
    """
    if term.is_settled:
        return term
    chosen = list(frames)
    if sum(map(len, frames)) < ENOUGH:
        rng = np.random.default_rng(0)
        chosen += [copy for atoms in frames for copy in perturbed(atoms, rng)]
    return term.settled([find_pairs(atoms, term.cutoff) for atoms in chosen])
