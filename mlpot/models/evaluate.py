"""Errors of a model on labelled structures, and how its uncertainty compares with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import spearmanr

from ..data.overlaps import check_structures
from ..structures import LabelledStructure
from ..uncertainty.calibration import SYMMETRIC, UNCALIBRATED, Calibration, coverage, expected_normalised_error
from ..uncertainty.representatives import NOVEL
from .report import (
    Comparison,
    Errors,
    compare,
    energy_errors,
    errors,
    errors_per_config_type,
    force_errors,
)
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
    check_structures(structures)
    comparisons = [compare(model, structure, uncertainty=True) for structure in structures]
    return Evaluation(
        overall=errors(comparisons),
        per_config_type=errors_per_config_type(comparisons),
        calibration=calibration(comparisons, model.calibration),
        comparisons=comparisons,
    )


def calibration(comparisons: Sequence[Comparison], used: Calibration = UNCALIBRATED) -> dict[str, float | None]:
    """How the predicted standard deviations relate to the errors that occurred; None where there are too few labels to say.

    "energy_..." of total energies and "force_..." of force components, but those that symmetry makes zero:
    "_coverage_1_sigma", "_coverage_2_sigma": parts within one and two deviations (a normal distribution has 0.68, 0.95);
    "_expected_normalised_error": see `expected_normalised_error`;
    "_rank_correlation": Spearman's between deviation and size of the error, of forces per atom, both as lengths of vectors;
    "_rank_correlation_attainable": what errors drawn from the predicted distributions show: where all atoms are about equally
    uncertain, not even a perfect uncertainty ranks their errors. The few members of the ensemble make deviations differ by
    chance (15 %), which counts as a difference in uncertainty here: the true value is lower, see benchmarks/README.md.

    "structure_rank_correlation": Spearman's between root mean squares over the forces of a structure, of deviations and of
    errors: whether it is known at which structures the model is good, which is what a run decides by;
    "atom_rank_correlation": Spearman's between `energies_std` and the size of the force error, over all atoms;
    "novel_atoms": part of the atoms whose novelty is more than `NOVEL`; "energy_scale", "force_scale", "stress_scale": of
    the calibration that was `used`.
    """
    forces, forces_std = force_errors(comparisons)
    told = forces_std > SYMMETRIC
    with_forces = [c for c in comparisons if c.forces is not None and c.energies_std is not None]
    sizes = _joined([np.linalg.norm(c.forces, axis=1) for c in with_forces])
    totals = energy_errors(comparisons)
    return {
        **_against(totals, "energy"),
        **_against((forces[told], forces_std[told]), "force"),
        "energy_rank_correlation": _rank_correlation(*totals),
        "energy_rank_correlation_attainable": _rank_correlation(_drawn(totals[1]), totals[1]),
        "force_rank_correlation": _rank_correlation(_lengths(forces), _lengths(forces_std)),
        "force_rank_correlation_attainable": _rank_correlation(_lengths(_drawn(forces_std)), _lengths(forces_std)),
        "structure_rank_correlation": _rank_correlation(*_root_mean_squares(comparisons)),
        "atom_rank_correlation": _rank_correlation(sizes, _joined([c.energies_std for c in with_forces])),
        "novel_atoms": _novel(comparisons),
        **{key: getattr(used, key) for key in ("energy_scale", "force_scale", "stress_scale")},
    }


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *arrays])


def _against(errors_and_deviations: tuple[np.ndarray, np.ndarray], kind: str) -> dict[str, float | None]:
    found, deviations = errors_and_deviations
    values = (
        (coverage(found, deviations, 1), coverage(found, deviations, 2), expected_normalised_error(found, deviations))
        if len(found)
        else (None, None, None)
    )
    names = ("coverage_1_sigma", "coverage_2_sigma", "expected_normalised_error")
    return {f"{kind}_{name}": value for name, value in zip(names, values, strict=True)}


def _drawn(deviations: np.ndarray) -> np.ndarray:
    """Errors of these standard deviations, always the same."""
    return deviations * np.random.default_rng(0).standard_normal(deviations.shape)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def _root_mean_squares(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Of force errors and of their deviations (n_structures,), where there are both."""
    told = [(c.forces, c.forces_std) for c in comparisons if c.forces is not None and c.forces_std is not None]
    sizes = np.array([[np.sqrt(np.mean(values**2)) for values in both] for both in told]).reshape(-1, 2)
    return sizes[:, 0], sizes[:, 1]


def _rank_correlation(found: np.ndarray, deviations: np.ndarray) -> float | None:
    sizes = np.abs(found)
    if len(sizes) < 3 or np.ptp(deviations) == 0 or np.ptp(sizes) == 0:
        return None
    return float(spearmanr(deviations, sizes).statistic)


def _novel(comparisons: Sequence[Comparison]) -> float | None:
    known = [c.novelty for c in comparisons if c.novelty is not None]
    return float(np.mean(_joined(known) > NOVEL)) if known else None
