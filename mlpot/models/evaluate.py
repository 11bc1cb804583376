"""Errors of a model on labelled structures, compared with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..data.overlaps import check_structures
from ..errors import required
from ..settings.learning import NOVEL
from ..structures import LabelledStructure, stress_voigt
from ..uncertainty.calibration import SYMMETRIC, UNCALIBRATED, Calibration, coverage, expected_normalised_error
from ..units import GIGAPASCAL, MILLI
from .prediction import Prediction
from .report import Errors
from .sparse_gp import SparseGP


@dataclass(frozen=True)
class Comparison:
    """Errors (predicted minus labelled) for one structure; None for missing labels.

    For structures left out of a fit, `forces_std` is the posterior standard deviation before calibration, and `forces_discrepancy`
    the model discrepancy, of which the calibration adds a share; the prediction itself is not available.
    """

    structure: LabelledStructure
    energy_per_atom: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    energies_std: np.ndarray | None
    energy_std: float | None
    forces_std: np.ndarray | None = None
    stress_std: np.ndarray | None = None
    novelty: np.ndarray | None = None
    forces_discrepancy: np.ndarray | None = None
    prediction: Prediction | None = None


def compare(model: SparseGP, structure: LabelledStructure, uncertainty: bool = False) -> Comparison:
    """Differences between a model and the labels of a structure, in eV, eV/A and eV/A^3."""
    p = model.predict(structure.atoms, uncertainty)
    has_stress = structure.virial is not None and p.stress is not None
    return Comparison(
        structure=structure,
        energy_per_atom=None if structure.energy is None else (p.energy - structure.energy) / structure.n_atoms,
        forces=None if structure.forces is None else p.forces - structure.forces,
        stress=p.stress + structure.virial / structure.atoms.get_volume() if has_stress else None,
        energies_std=p.energies_std,
        energy_std=p.energy_std,
        forces_std=p.forces_std,
        stress_std=p.stress_std if has_stress else None,
        novelty=p.novelty,
        forces_discrepancy=p.forces_discrepancy,
        prediction=p,
    )


def force_errors(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, 3) of all labelled forces, and their standard deviations, eV/A."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    nothing = np.empty((0, 3))
    return np.concatenate([nothing, *(c.forces for c in known)]), np.concatenate(
        [nothing, *(c.forces_std for c in known)]
    )


def force_discrepancies(comparisons: Sequence[Comparison]) -> np.ndarray:
    """Model discrepancies (n, 3) for the forces of `force_errors`, eV/A."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    return np.concatenate([np.empty((0, 3)), *(required(c.forces_discrepancy, "forces_discrepancy") for c in known)])


def energy_errors(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of all labelled total energies and their standard deviations, eV."""
    known = [
        (c.energy_per_atom * c.structure.n_atoms, c.energy_std)
        for c in comparisons
        if c.energy_per_atom is not None and c.energy_std is not None
    ]
    found = np.array(known).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def force_numbers(comparisons: Sequence[Comparison]) -> np.ndarray:
    """Atomic numbers (n,) of the atoms of `force_errors`."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    return np.concatenate([np.empty(0, int), *(c.structure.atoms.numbers for c in known)])


def stress_errors(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, 6) of all labelled stresses and their standard deviations, eV/A^3."""
    found = [
        (stress_voigt(c.stress), stress_voigt(c.stress_std))
        for c in comparisons
        if c.stress is not None and c.stress_std is not None
    ]
    both = np.array(found).reshape(-1, 2, 6)
    return both[:, 0], both[:, 1]


def errors(comparisons: Sequence[Comparison]) -> Errors:
    """Mean absolute and root mean square errors over structures (energies) and components (forces, stresses)."""
    energies = np.array([c.energy_per_atom for c in comparisons if c.energy_per_atom is not None]) / MILLI
    forces = _flat(c.forces for c in comparisons)
    stresses = _flat(c.stress for c in comparisons) / GIGAPASCAL
    return Errors(
        n_structures=len(comparisons),
        n_atoms=sum(c.structure.n_atoms for c in comparisons),
        energy_mae_mev_per_atom=_mean_absolute(energies),
        energy_rmse_mev_per_atom=_root_mean_square(energies),
        force_mae_ev_per_ang=_mean_absolute(forces),
        force_rmse_ev_per_ang=_root_mean_square(forces),
        stress_rmse_gpa=_root_mean_square(stresses),
    )


def compare_all(
    model: SparseGP, structures: Sequence[LabelledStructure], progress: Callable[[str, int, int], None]
) -> list[Comparison]:
    """Apply `compare` to each structure."""
    comparisons = []
    for k, structure in enumerate(structures):
        comparisons.append(compare(model, structure))
        progress("residuals", k + 1, len(structures))
    return comparisons


def errors_per_config_type(comparisons: Sequence[Comparison]) -> dict[str, Errors]:
    """`errors` for each config_type, sorted by name."""
    families: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        families.setdefault(comparison.structure.config_type, []).append(comparison)
    return {name: errors(families[name]) for name in sorted(families)}


def _flat(arrays) -> np.ndarray:
    found = [np.ravel(array) for array in arrays if array is not None]
    return np.concatenate(found) if found else np.empty(0)


def _mean_absolute(values: np.ndarray) -> float | None:
    return float(np.mean(np.abs(values))) if len(values) else None


def _root_mean_square(values: np.ndarray) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None


@dataclass(frozen=True)
class Evaluation:
    """Comparison of a model with labels: overall errors, errors per config_type, and errors of every structure."""

    overall: Errors
    per_config_type: dict[str, Errors]
    calibration: dict[str, float | None]
    comparisons: list[Comparison]

    def to_dict(self) -> dict:
        """Dictionary for the JSON output of `mlpot evaluate --json`."""
        return {
            **asdict(self.overall),
            "calibration": self.calibration,
            "per_config_type": {name: asdict(values) for name, values in self.per_config_type.items()},
        }


def evaluate(model: SparseGP, structures: Sequence[LabelledStructure]) -> Evaluation:
    """Predict every structure with its uncertainty, and compare with its labels."""
    check_structures(structures)
    comparisons = [compare(model, structure, uncertainty=True) for structure in structures]
    return Evaluation(
        overall=errors(comparisons),
        per_config_type=errors_per_config_type(comparisons),
        calibration=calibration(comparisons, model.calibration),
        comparisons=comparisons,
    )


def calibration(comparisons: Sequence[Comparison], used: Calibration = UNCALIBRATED) -> dict[str, float | None]:
    """Statistics that compare predicted standard deviations with observed errors; None if there are too few labels.

    "energy_..." for total energies and "force_..." for force components, except for components that vanish by symmetry:
    "_coverage_1_sigma", "_coverage_2_sigma": fractions within one and two standard deviations (normal: 0.68, 0.95);
    "_expected_normalised_error": see `expected_normalised_error`;
    "_rank_correlation": Spearman's, between standard deviation and size of the error; for forces per atom, with vector lengths;
    "_rank_correlation_attainable": the same for errors drawn from the predicted distributions: if all atoms are about equally
    uncertain, even a perfect uncertainty cannot rank their errors. The small ensemble causes random differences (15 %) of the
    standard deviations, which count as differences in uncertainty here, so the true value is lower, see benchmarks/README.md.

    "structure_rank_correlation": Spearman's, between the root mean squares of standard deviations and of errors over the forces
    of a structure: whether the model knows for which structures it is accurate, which is the basis of decisions in a run;
    "atom_rank_correlation": Spearman's, between `energies_std` and the size of the force error, over all atoms;
    "novel_atoms": fraction of the atoms with a novelty above `NOVEL`; "energy_scale", "force_scale", "stress_scale": scale factors
    of the calibration that was `used`.
    """
    forces, forces_std = force_errors(comparisons)
    told = forces_std > SYMMETRIC
    with_forces = [(c.forces, c.energies_std) for c in comparisons if c.forces is not None and c.energies_std is not None]
    sizes = _joined([np.linalg.norm(errors_of_atoms, axis=1) for errors_of_atoms, _ in with_forces])
    totals = energy_errors(comparisons)
    return {
        **_against(totals, "energy"),
        **_against((forces[told], forces_std[told]), "force"),
        "energy_rank_correlation": _rank_correlation(*totals),
        "energy_rank_correlation_attainable": _rank_correlation(_drawn(totals[1]), totals[1]),
        "force_rank_correlation": _rank_correlation(_lengths(forces), _lengths(forces_std)),
        "force_rank_correlation_attainable": _rank_correlation(_lengths(_drawn(forces_std)), _lengths(forces_std)),
        "structure_rank_correlation": _rank_correlation(*_root_mean_squares(comparisons)),
        "atom_rank_correlation": _rank_correlation(sizes, _joined([energies_std for _, energies_std in with_forces])),
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
    """Reproducible random errors with these standard deviations."""
    return deviations * np.random.default_rng(0).standard_normal(deviations.shape)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def _root_mean_squares(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares (n_structures,) of force errors and of their standard deviations, for structures with both."""
    told = [(c.forces, c.forces_std) for c in comparisons if c.forces is not None and c.forces_std is not None]
    sizes = np.array([[np.sqrt(np.mean(values**2)) for values in both] for both in told]).reshape(-1, 2)
    return sizes[:, 0], sizes[:, 1]


def _rank_correlation(found: np.ndarray, deviations: np.ndarray) -> float | None:
    from scipy.stats import spearmanr  # slow to import, and not needed by fits

    sizes = np.abs(found)
    if len(sizes) < 3 or np.ptp(deviations) == 0 or np.ptp(sizes) == 0:
        return None
    return float(spearmanr(deviations, sizes).statistic)


def _novel(comparisons: Sequence[Comparison]) -> float | None:
    known = [c.novelty for c in comparisons if c.novelty is not None]
    return float(np.mean(_joined(known) > NOVEL)) if known else None
