"""Models that answer for elements which no data had, through the embedding of mixed channels.

A neighbour of an unseen element has a density of its own: its weights in the channels continue those of the known elements
over the periodic table. Everything that is known for single elements (the sparse points of a centre, pair potentials, the
energy of the free atom where none is given) it takes from the known element that is most like it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..descriptors.density import SoapDescriptor
from ..descriptors.embedding import weights_of_unseen
from ..descriptors.periodic import similarities
from ..terms.baseline import Baseline
from ..terms.protocol import Term
from ..terms.soap import SoapTerm
from .lone_atoms import anchored

if TYPE_CHECKING:
    from .sparse_gp import SparseGP


def extended(model: SparseGP, unseen: tuple[int, ...]) -> SparseGP:
    """The model for more elements.

    Parameters
    ----------
    model : SparseGP
        Whose many-body terms mix elements.
    unseen : tuple of int
        Sorted atomic numbers that it does not know.

    Raises
    ------
    ConfigError
        For an element beyond the table of properties.
    """
    known = model.fitted_species
    alike = similarities(unseen, known)
    stand_ins = {z: known[k] for z, k in zip(unseen, alike.argmax(axis=1), strict=True)}
    noises = model.noises
    for z, similarity in zip(unseen, alike.max(axis=1).tolist(), strict=True):
        noises = noises.standing_in(z, stand_ins[z], similarity)
    baseline = _extended_baseline(model.baseline, stand_ins)
    guessing = replace(
        model,
        species=tuple(sorted({*model.species, *unseen})),
        stand_ins={**model.stand_ins, **stand_ins},
        terms=tuple(_extended_term(term, stand_ins) for term in model.terms),
        noises=noises,
        baseline=baseline,
    )
    return anchored(guessing)


def _extended_baseline(baseline: Baseline, stand_ins: dict[int, int]) -> Baseline:
    """With the energies of stand-ins for elements that have none: given ones count as given."""
    energies, lone_atoms = baseline.isolated_atom_energies, baseline.lone_atoms
    lent = {z: other for z, other in stand_ins.items() if z not in energies and other in energies}
    return replace(
        baseline,
        isolated_atom_energies={z: energies[other] for z, other in lent.items()} | energies,
        lone_atoms={z: 0.0 for z, other in lent.items() if other in lone_atoms} | lone_atoms,
    )


def _extended_term(term: Term, stand_ins: dict[int, int]) -> Term:
    """The term whose density has channels' weights for more elements, no points at them, and energy scales of their stand-ins."""
    if not isinstance(term, SoapTerm):
        return term
    own, unseen = term.descriptor, tuple(stand_ins)
    species = tuple(sorted({*own.species, *unseen}))
    scales = dict(zip(own.species, term.energy_scales, strict=True))
    points = dict(zip(own.species, term.sparse_features, strict=True))
    none = np.empty((0, own.n_features))
    return replace(
        term,
        descriptor=_extended_descriptor(own, species, unseen),
        energy_scales=tuple(scales[stand_ins.get(z, z)] for z in species),
        sparse_features=tuple(points.get(z, none) for z in species),
    )


def _extended_descriptor(own: SoapDescriptor, species: tuple[int, ...], unseen: tuple[int, ...]) -> SoapDescriptor:
    weights = np.concatenate([own.weights, weights_of_unseen(own.weights, own.species, unseen)], axis=1)
    order = np.argsort([*own.species, *unseen])
    return replace(own, species=species, reduction=replace(own.reduction, weights=weights[:, order]))
