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

AddTerms = Callable[[Pairs, np.ndarray, np.ndarray], None]
"""Function that adds local energies (n_atoms,) in eV and pair gradients (n_pairs, 3) in eV/A of terms."""


def lone_energies(model: Parameters, add_terms: AddTerms) -> dict[int, float]:
    """Contribution of the terms to a lone atom, eV, for every element with a given energy; 0 for elements outside the model."""
    found = dict.fromkeys(model.baseline.lone_atoms, 0.0)
    for number in set(found) & set(model.species):
        pairs = model.as_known(find_pairs(Atoms([number]), model.cutoff))
        energies = np.zeros(1)
        add_terms(pairs, energies, np.zeros((0, 3)))
        found[number] = float(energies[0])
    return found


def anchored(model: Model) -> Model:
    """Update the baseline of a model with new weights or elements, so that it subtracts the terms' energies of lone atoms."""
    if not model.baseline.lone_atoms:
        return model
    with single_blas_thread():
        lone_atoms = lone_energies(model, model.add_terms)
    return replace(model, baseline=replace(model.baseline, lone_atoms=lone_atoms))
