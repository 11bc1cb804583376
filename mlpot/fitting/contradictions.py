"""Whether energies, forces and stresses contradict each other, seen in a fit: its predictions follow some of them and not the others.

Labels y of structures and predictions x are on a line y = b x, apart from a constant for every element (energies) or component
(stresses). Where the fit explains two kinds of labels, b of the third is the factor between its unit and theirs, negative if its sign
is turned. Unlike `data.unit_check`, this does not need pairs of similar structures, but a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.unit_check import doubts_of, is_off, unit_doubts
from ..errors import required
from ..models.evaluate import Comparison

FEWEST = 8
"""Labels beyond the number of constants."""
EXPLAINED = 0.9
"""Squared correlation of labels and predictions of a kind that the fit follows."""
ON_A_LINE = {"energy": 0.5, "forces": 0.1, "stress": 0.5}
"""Smallest squared correlation for a factor; of the many forces less is certain, too."""


@dataclass(frozen=True)
class _Line:
    """Labels against predictions: the factor b, certain and unlike one (`is_off`) or not, and the squared correlation."""

    factor: float
    is_off: bool
    explained: float

    @property
    def is_followed(self) -> bool:
        return self.explained > EXPLAINED and not self.is_off


def contradictions(comparisons: Sequence[Comparison]) -> list[str]:
    """Messages for forces, stresses or energies of another unit or sign than the other labels; may be empty.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of the structures that the model has been fitted to.
    """
    with_forces = [c for c in comparisons if c.forces is not None]
    energies, forces, stress = (
        _line(kind, *values(with_forces)) for kind, values in (("energy", _energies), ("forces", _forces), ("stress", _stresses))
    )
    if energies is None or forces is None:
        return []
    factors = {}
    if energies.is_off and forces.is_followed:
        factors["forces"] = energies.factor
    elif energies.is_followed and forces.is_off:
        factors["forces"] = 1 / forces.factor
    if stress is not None and energies.is_off and stress.is_followed:
        factors["stress"] = energies.factor
    elif stress is not None and stress.is_off and energies.is_followed and forces.is_followed:
        factors["stress"] = 1 / stress.factor
    if not factors or unit_doubts([c.structure for c in comparisons]):
        return []
    return doubts_of(factors, [c.structure for c in with_forces], unknown_units=False)


def _line(kind: str, labels: np.ndarray, predictions: np.ndarray, n_constants: int) -> _Line | None:
    """Line through labels and predictions; None for too few of them, or if they hardly vary."""
    n_free, products = len(labels) - n_constants - 1, float(labels @ predictions)
    if n_free < FEWEST or not labels.any() or not predictions.any():
        return None
    explained = products**2 / float(labels @ labels) / float(predictions @ predictions)
    ratio = float(np.copysign(np.sqrt(labels @ labels / (predictions @ predictions)), products))
    error = abs(ratio) * float(np.sqrt(max(1 - explained, 0.0) / explained / n_free)) if explained else np.inf
    return _Line(ratio, explained > ON_A_LINE[kind] and is_off(ratio, error), explained)


def _energies(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and predictions per atom without what a constant for every element explains."""
    rows = [c for c in comparisons if c.energy_per_atom is not None]
    species = sorted({int(z) for c in rows for z in c.structure.atoms.numbers})
    shares = np.array([[np.mean(c.structure.atoms.numbers == z) for z in species] for c in rows]).reshape(len(rows), len(species))
    labels = np.array([required(c.structure.energy, "energy") / c.structure.n_atoms for c in rows])
    both = np.stack([labels, labels + np.array([c.energy_per_atom for c in rows])], axis=-1).reshape(-1, 2)
    if len(rows):
        both -= shares @ np.linalg.lstsq(shares, both, rcond=None)[0]
    return both[:, 0], both[:, 1], len(species)


def _stresses(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and predictions (6 n,) without the mean of each component."""
    rows = [c for c in comparisons if c.stress is not None]
    upper = np.triu_indices(3)
    errors = np.array([np.asarray(c.stress)[upper] for c in rows]).reshape(-1, 6)
    labels = np.array([-required(c.structure.virial, "virial")[upper] / c.structure.atoms.get_volume() for c in rows]).reshape(-1, 6)
    predictions = labels + errors
    return _centred(labels), _centred(predictions), 6


def _centred(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(axis=0)).ravel() if len(rows) else rows.ravel()


def _forces(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and predictions of all components."""
    labels = np.concatenate([np.empty(0), *(required(c.structure.forces, "forces").ravel() for c in comparisons)])
    return labels, labels + np.concatenate([np.empty(0), *(np.ravel(required(c.forces, "forces")) for c in comparisons)]), 0
