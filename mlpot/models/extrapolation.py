"""Extrapolation of models to elements absent from the training data, through the embedding of mixed channels.

A neighbour of an unseen element gets channel weights extrapolated from the known elements over the periodic table. Quantities that
exist only per element (sparse points of a centre, pair potentials, the energy of the free atom if none is given) are taken from the
most similar known element. Forces on the unseen element get a standard deviation for that, see `Noises.of_guess`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..descriptors.periodic import similarities
from ..terms.baseline import Baseline
from .lone_atoms import anchored
from .parameters import Parameters

Model = TypeVar("Model", bound=Parameters)


def extended(model: Model, unseen: tuple[int, ...]) -> Model:
    """Extend a model to more elements.

    Parameters
    ----------
    model : Parameters
        A model whose many-body terms mix elements.
    unseen : tuple of int
        Sorted atomic numbers that the model does not know.

    Raises
    ------
    ConfigError
        If an element is not in the table of properties.
    """
    known = model.fitted_species
    alike = similarities(unseen, known)
    stand_ins = {z: known[k] for z, k in zip(unseen, alike.argmax(axis=1), strict=True)}
    noises, floors = model.noises, dict(model.calibration.floors)
    for z, similarity in zip(unseen, alike.max(axis=1).tolist(), strict=True):
        known = stand_ins[z]
        noises = noises.lent(z, known)
        floors[z] = float(np.hypot(floors.get(known, 0.0), noises.of_guess(known, similarity)))
    baseline = _extended_baseline(model.baseline, stand_ins)
    guessing = replace(
        model,
        species=tuple(sorted({*model.species, *unseen})),
        stand_ins={**model.stand_ins, **stand_ins},
        terms=tuple(term.extended(stand_ins) for term in model.terms),
        noises=noises,
        calibration=replace(model.calibration, floors=floors),
        baseline=baseline,
    )
    return anchored(guessing)


def _extended_baseline(baseline: Baseline, stand_ins: dict[int, int]) -> Baseline:
    """Baseline in which elements without an energy get the energy of their stand-ins; given energies remain marked as given."""
    energies, lone_atoms = baseline.isolated_atom_energies, baseline.lone_atoms
    lent = {z: other for z, other in stand_ins.items() if z not in energies and other in energies}
    return replace(
        baseline,
        isolated_atom_energies={z: energies[other] for z, other in lent.items()} | energies,
        lone_atoms={z: 0.0 for z, other in lent.items() if other in lone_atoms} | lone_atoms,
    )
