"""Force errors of elements that another one represents, measured on the known elements.

The similarity over the periodic table is a poor measure of them: in CuAgAu, gold as silver (similarity 0.97) is off by a sixth of its
forces, copper as silver (0.98) by more than all of them. So each element of the data is replaced by the most similar other one, and
the errors of its forces r are compared with the errors that the similarity implies, d = sqrt(1 - similarity^2) times the size of the
forces. The ratio g is their scaled inverse chi-squared estimate with a prior of 1 that counts as one element:

    g^2 = (1 + sum_z (r_z / d_z)^2) / (1 + n)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..descriptors.periodic import similarities
from ..models.sparse_gp import SparseGP
from ..structures import LabelledStructure

MOST = 10
"""Largest number of structures in which an element is replaced: ratios differ by a factor of ten between elements, and by less
between structures."""


def guess_of(model: SparseGP, structures: Sequence[LabelledStructure]) -> float:
    """Ratio g for `Noises.guess`; 1 for a model of a single element."""
    ratios = [_ratio(model, structures, z) for z in model.species if len(model.species) > 1]
    known = [ratio for ratio in ratios if ratio is not None]
    return float(np.sqrt((1.0 + sum(ratio**2 for ratio in known)) / (1 + len(known))))


def _ratio(model: SparseGP, structures: Sequence[LabelledStructure], number: int) -> float | None:
    """Ratio r / d of an element; None without forces on it."""
    others = [z for z in model.species if z != number]
    alike = similarities((number,), tuple(others))[0]
    other, similarity = others[int(alike.argmax())], min(float(alike.max()), 1.0)
    implied = np.sqrt(1.0 - similarity**2) * model.noises.sizes.get(other, 0.0)
    holding = [s for s in structures if s.forces is not None and number in s.atoms.numbers]
    evenly = holding[:: -(-len(holding) // MOST) or 1]
    errors = [_errors(model, structure, number, other) for structure in evenly]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)) / implied) if errors and implied > 0 else None


def _errors(model: SparseGP, structure: LabelledStructure, number: int, other: int) -> np.ndarray:
    """Force errors (n, 3) on the atoms of an element when all of them are replaced by the other one, eV/A."""
    own = structure.atoms.numbers == number
    replaced = structure.atoms.copy()
    replaced.numbers[own] = other
    return (model.predict(replaced).forces - structure.forces)[own]
