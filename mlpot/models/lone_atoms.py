"""Contributions of the terms of a model to atoms without neighbours; see `terms.lone_atoms`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from ase import Atoms

from ..neighbours import Pairs, find_pairs
from ..threads import single_blas_thread
from .parameters import Parameters

Model = TypeVar("Model", bound=Parameters)

EnergiesOf = Callable[[Pairs], np.ndarray]
"""Function for the local energies (n_atoms,) of terms, eV."""


def lone_energies(model: Parameters, energies_of: EnergiesOf) -> dict[int, float]:
    """Contribution of the terms to a lone atom, eV, for every element with a given energy; 0 for elements outside the model."""
    found = dict.fromkeys(model.baseline.lone_atoms, 0.0)
    for number in set(found) & set(model.species):
        pairs = model.as_known(find_pairs(Atoms([number]), model.cutoff))
        found[number] = float(energies_of(pairs)[0])
    return found


def anchored(model: Model) -> Model:
    """Update the baseline of a model with new weights or elements, so that it subtracts the terms' energies of lone atoms."""
    if not model.baseline.lone_atoms:
        return model

    def energies_of(pairs: Pairs) -> np.ndarray:
        energies = np.zeros(pairs.n_atoms)
        model.add_terms(pairs, energies, np.zeros((pairs.n_pairs, 3)))
        return energies

    with single_blas_thread():
        lone_atoms = lone_energies(model, energies_of)
    return replace(model, baseline=replace(model.baseline, lone_atoms=lone_atoms))
