"""Report of a fit: errors, suspicious labels, and the settings used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Errors:
    """Errors of a model on a set of structures (predicted minus labelled).

    Energies per atom in meV, forces in eV/A, stresses in GPa; None without labels.
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
    """A label that disagrees with the fit to all other structures.

    Parameters
    ----------
    structure : int
        Index into the data.
    name, config_type : str
    label : str
        "energy", "forces" or "stress".
    error : float
        Predicted minus labelled: eV/atom, eV/A (length of the error of the worst atom), eV/A^3 (largest component).
    typical : float
        Median of such errors over its config_type.
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
    """Quality of a fit for one kind of label: energies per atom in meV, forces in eV/A, stresses in GPa.

    Parameters
    ----------
    kind : str
        "energy", "forces" or "stress".
    spread : float
        Root mean square of the labels; energies are relative to a linear fit to the composition.
    training, left_out : float or None
        RMS error on the training data, and on structures left out in groups of consecutive frames.
    n_left_out : int
        Number of structures left out.
    worst : str
        The left-out structure with the largest error.
    worst_share : float
        Share of the squared error in the worst twentieth of the left-out structures.
    others : float or None
        RMS error of all other left-out structures.
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
    """Data and settings of a fit, its residuals, and its conditioning.

    Parameters
    ----------
    n_structures, n_atoms, n_energies, n_force_components, n_virials : int
        Numbers of labels used.
    n_sparse : list of int
        Number of sparse points of each term.
    energy_scales : list of list of float
        Prior standard deviation of every block of every term, eV.
    isolated_atom_energies : dict
        Isolated-atom energies by atomic number, eV.
    isolated_atom_energies_fitted : bool
        Whether they were fitted to the data rather than given by the user.
    condition : float
        Condition number (1-norm) of the triangular factor.
    residuals : dict of str to Errors
        Errors on the training data per config_type.
    log_likelihood : float or None
        Logarithm of the marginal likelihood.
    left_out : dict of str to Errors
        Leave-one-out errors per config_type; empty if not requested.
    suspicious : list of SuspiciousLabel
        Labels that disagree with the fit to all other structures, the worst first.
    trials : list of dict
        Hyperparameters that were tried (`fit.tune`), the best first.
    noises : dict of str to float
        Fitted noises: "energy" and "virial" in eV/atom, "forces" in eV/A (root mean square over the elements).
    force_noises : dict of int to float
        Fitted force noises by atomic number, eV/A.
    coverage : dict of str to float
        Fractions of the leave-out errors within one and two standard deviations, calibrated on these errors; see
        `calibration.coverage`. Empty without errors to calibrate on.
    cpu_seconds : float
        CPU time of the whole fit.
    n_bound : int or None
        Number of structures other than isolated atoms; None in files of earlier versions.
    quality : list of LabelQuality
        Errors of these structures relative to the spread of the labels.
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
        """Plain numbers and strings for files."""
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
