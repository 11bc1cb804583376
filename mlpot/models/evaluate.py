"""Errors of a model on labelled structures, and how its uncertainty compares with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import spearmanr

from ..structures import LabelledStructure
from .report import Comparison, Errors, compare, errors, errors_per_config_type
from .sparse_gp import SparseGP


@dataclass(frozen=True)
class Evaluation:
    """A model against labels: the overall errors, those per config_type, and every single difference."""

    overall: Errors
    per_config_type: dict[str, Errors]
    calibration: dict[str, float | None]
    comparisons: list[Comparison]

    def to_dict(self) -> dict:
        """The JSON that `mlpot evaluate --json` writes."""
        return {
            **asdict(self.overall),
            "calibration": self.calibration,
            "per_config_type": {name: asdict(values) for name, values in self.per_config_type.items()},
        }


def evaluate(model: SparseGP, structures: Sequence[LabelledStructure]) -> Evaluation:
    """Predict every structure with its uncertainty and compare."""
    comparisons = [compare(model, structure, uncertainty=True) for structure in structures]
    return Evaluation(
        overall=errors(comparisons),
        per_config_type=errors_per_config_type(comparisons),
        calibration=calibration(comparisons),
        comparisons=comparisons,
    )


def calibration(comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    """How the predicted standard deviations relate to the errors that occurred.

    "energy_coverage_1_sigma", "energy_coverage_2_sigma": part of the total energies within one and two deviations;
    "atom_rank_correlation": Spearman's between `energies_std` and the size of the force error, over all atoms. None where
    there are too few labels to say.
    """
    ratios = np.array(
        [
            abs(c.energy_per_atom) * c.structure.n_atoms / c.energy_std
            for c in comparisons
            if c.energy_per_atom is not None
        ]
    )
    with_forces = [c for c in comparisons if c.forces is not None]
    rank = None
    if with_forces:
        deviations = np.concatenate([c.energies_std for c in with_forces])
        sizes = np.concatenate([np.linalg.norm(c.forces, axis=1) for c in with_forces])
        if len(sizes) > 2 and np.ptp(deviations) > 0 and np.ptp(sizes) > 0:
            rank = float(spearmanr(deviations, sizes).statistic)
    return {
        "energy_coverage_1_sigma": float(np.mean(ratios <= 1)) if len(ratios) else None,
        "energy_coverage_2_sigma": float(np.mean(ratios <= 2)) if len(ratios) else None,
        "atom_rank_correlation": rank,
    }
