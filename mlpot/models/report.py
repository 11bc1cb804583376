"""What a fit says of itself, and errors of a model on labelled structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..structures import LabelledStructure, stress_voigt
from ..units import GIGAPASCAL, MILLI

if TYPE_CHECKING:
    from .prediction import Prediction
    from .sparse_gp import SparseGP


@dataclass(frozen=True)
class Errors:
    """Errors of a model on a set of structures: predicted minus labelled.

    Energies per atom in meV, forces in eV/A, stresses in GPa; None where there was no label.
    """

    n_structures: int
    n_atoms: int
    energy_mae_mev_per_atom: float | None
    energy_rmse_mev_per_atom: float | None
    force_mae_ev_per_ang: float | None
    force_rmse_ev_per_ang: float | None
    stress_rmse_gpa: float | None


@dataclass(frozen=True)
class SuspiciousLabel:
    """A label that the fit to all other structures does not confirm.

    Parameters
    ----------
    structure : int
        Index into the data.
    name, config_type : str
    label : str
        "energy", "forces" or "stress".
    error : float
        Predicted minus labelled: eV/atom, eV/A (of the worst atom, its length), eV/A^3 (the largest component).
    typical : float
        Median of that over its family.
    atom : int or None
        The worst atom, for forces.
    """

    structure: int
    name: str
    config_type: str
    label: str
    error: float
    typical: float
    atom: int | None


@dataclass(frozen=True)
class LabelQuality:
    """How a fit does with one kind of label: energies per atom in meV, forces in eV/A, stresses in GPa.

    Parameters
    ----------
    kind : str
        "energy", "forces" or "stress".
    spread : float
        Root mean square of the labels, of energies without what the composition explains.
    training, left_out : float or None
        RMS error on the training data, and on structures left out in groups of consecutive frames.
    n_left_out : int
        Structures left out.
    worst : str
        The structure with the largest error of those.
    worst_share : float
        Share of the squared error that is in the worst twentieth of them.
    others : float or None
        RMS error of all others.
    """

    kind: str
    spread: float
    training: float
    left_out: float | None
    n_left_out: int
    worst: str
    worst_share: float
    others: float | None


@dataclass(frozen=True)
class FitReport:
    """What a fit used, what it left unexplained, and how well posed it was.

    Parameters
    ----------
    n_structures, n_atoms, n_energies, n_force_components, n_virials : int
        Labels used.
    n_sparse : list of int
        Sparse points per term.
    energy_scales : list of list of float
        Prior std of every block of every term, eV.
    isolated_atom_energies : dict
        eV, by atomic number.
    isolated_atom_energies_fitted : bool
        Whether they came from the data rather than from the user.
    condition : float
        Condition number (1-norm) of the triangular factor.
    residuals : dict of str to Errors
        Errors on the training data per config_type.
    log_likelihood : float or None
        Logarithm of the marginal likelihood.
    left_out : dict of str to Errors
        Errors per config_type of every structure by the fit to all others; empty where that was not asked for.
    suspicious : list of SuspiciousLabel
        Labels that the fit to all other structures does not confirm, the worst first.
    trials : list of dict
        Hyper-parameters that were tried (`fit.tune`), the best first.
    noises : dict of str to float
        Found: "energy" and "virial" in eV/atom, "forces" in eV/A, the root mean square over the elements.
    force_noises : dict of int to float
        Of every element, eV/A.
    coverage : dict of str to float
        Part of the errors of structures left out within one and two standard deviations, calibrated on these errors; see
        `evaluate.coverage`. Empty without errors to calibrate on.
    cpu_seconds : float
        Processor time of the whole fit.
    n_bound : int or None
        Structures that are no isolated atoms; None in files of earlier versions.
    quality : list of LabelQuality
        Errors of these against the spread of the labels.
    """

    n_structures: int
    n_atoms: int
    n_energies: int
    n_force_components: int
    n_virials: int
    n_sparse: list[int]
    energy_scales: list[list[float]]
    isolated_atom_energies: dict[int, float]
    isolated_atom_energies_fitted: bool
    condition: float
    residuals: dict[str, Errors]
    cpu_seconds: float
    log_likelihood: float | None = None
    left_out: dict[str, Errors] = field(default_factory=dict)
    suspicious: list[SuspiciousLabel] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    noises: dict[str, float] = field(default_factory=dict)
    force_noises: dict[int, float] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    n_bound: int | None = None
    quality: list[LabelQuality] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Plain numbers and strings, for files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> FitReport:
        """Inverse of `to_dict`, also after a round trip through JSON."""
        return cls(
            **{
                **values,
                "isolated_atom_energies": {int(z): e for z, e in values["isolated_atom_energies"].items()},
                "force_noises": {int(z): noise for z, noise in values.get("force_noises", {}).items()},
                "energy_scales": [s if isinstance(s, list) else [s] for s in values["energy_scales"]],
                "quality": [LabelQuality(**found) for found in values.get("quality", [])],
                "suspicious": [SuspiciousLabel(**label) for label in values.get("suspicious", [])],
                **{
                    key: {name: Errors(**errors) for name, errors in values.get(key, {}).items()}
                    for key in ("residuals", "left_out")
                },
            }
        )


@dataclass(frozen=True)
class Comparison:
    """Predicted minus labelled for one structure; None where there was no label.

    Of structures left out of a fit, `forces_std` is what the data leave open, before calibration, and `forces_discrepancy` what the
    calibration may add to it; there is no prediction of them.
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
    """Errors (n, 3) of all labelled forces and their standard deviations, eV/A."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    nothing = np.empty((0, 3))
    return np.concatenate([nothing, *(c.forces for c in known)]), np.concatenate(
        [nothing, *(c.forces_std for c in known)]
    )


def force_discrepancies(comparisons: Sequence[Comparison]) -> np.ndarray:
    """The model's discrepancies (n, 3) of `force_errors`, eV/A."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    return np.concatenate([np.empty((0, 3)), *(c.forces_discrepancy for c in known)])


def energy_errors(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of all labelled total energies and their standard deviations, eV."""
    known = [c for c in comparisons if c.energy_per_atom is not None and c.energy_std is not None]
    found = np.array([(c.energy_per_atom * c.structure.n_atoms, c.energy_std) for c in known]).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def force_numbers(comparisons: Sequence[Comparison]) -> np.ndarray:
    """Atomic numbers (n,) of the atoms of `force_errors`."""
    known = [c for c in comparisons if c.forces is not None and c.forces_std is not None]
    return np.concatenate([np.empty(0, int), *(c.structure.atoms.numbers for c in known)])


def stress_errors(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, 6) of all labelled stresses and their standard deviations, eV/A^3."""
    known = [c for c in comparisons if c.stress is not None and c.stress_std is not None]
    found = [(stress_voigt(c.stress), stress_voigt(c.stress_std)) for c in known]
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
    """`compare` of each structure."""
    comparisons = []
    for k, structure in enumerate(structures):
        comparisons.append(compare(model, structure))
        progress("residuals", k + 1, len(structures))
    return comparisons


def errors_per_config_type(comparisons: Sequence[Comparison]) -> dict[str, Errors]:
    """`errors` of each family, sorted by name."""
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
