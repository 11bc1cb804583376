"""Errors as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..models.report import Errors, SuspiciousLabel
from ..models.tensors import TargetErrors, TargetModels
from ..uncertainty.calibration import Calibration

ERROR_HEADS = (
    "config_type",
    "structures",
    "atoms",
    "E MAE",
    "E RMSE meV/atom",
    "F MAE",
    "F RMSE eV/A",
    "stress RMSE GPa",
)
"""Headers of the columns of `error_rows`."""


def error_rows(named: Iterable[tuple[str, Errors]]) -> list[list[str]]:
    """Name, structures, atoms, E MAE, E RMSE, F MAE, F RMSE, stress RMSE; a dash where there was no label."""
    return [
        [
            name,
            str(e.n_structures),
            str(e.n_atoms),
            _number(e.energy_mae_mev_per_atom, 2),
            _number(e.energy_rmse_mev_per_atom, 2),
            _number(e.force_mae_ev_per_ang, 4),
            _number(e.force_rmse_ev_per_ang, 4),
            _number(e.stress_rmse_gpa, 3),
        ]
        for name, e in named
    ]


TARGET_HEADS = ("target", "set", "structures", "MAE", "RMSE", "unit", "RMSE / std by degree", "within 1 std")
"""Headers of the columns of `target_rows`."""


def target_rows(errors: Iterable[tuple[str, str, str, TargetErrors]]) -> list[list[str]]:
    """Rows of target, set of structures, unit and errors; the relative error of every spherical part."""
    return [
        [
            name, where, str(e.n), f"{e.mae:.4g}", f"{e.rmse:.4g}", unit or "-",
            ", ".join(f"l={degree}: {value:.2f} %" for degree, value in e.parts.items()),
            "-" if e.coverage is None else f"{e.coverage:.0%}",
        ]
        for name, where, unit, e in errors
    ]  # fmt: skip


def fitted_target_rows(models: TargetModels, test: Mapping[str, TargetErrors] | None = None) -> list[list[str]]:
    """Rows for training structures, the same left out, and a test set."""
    sets = [(n, m, (("train", m.training), ("left out", m.left_out), ("test", (test or {}).get(n)))) for n, m in models.items()]
    return target_rows((n, where, m.target.unit, e) for n, m, own in sets for where, e in own if e is not None)


SUSPICION_HEADS = ("structure", "where", "config_type", "label", "error", "typical", "unit", "atom")
"""Headers of the columns of `suspicion_rows`."""
UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3"}


def suspicion_rows(labels: Iterable[SuspiciousLabel]) -> list[list[str]]:
    """Index of the structure, its name, config_type, label, error, what is typical, unit, worst atom."""
    return [
        [
            str(s.structure), s.name, s.config_type, s.label, f"{s.error:.4g}", f"{s.typical:.2g}", UNITS[s.label],
            "-" if s.atom is None else str(s.atom),
        ]
        for s in labels
    ]  # fmt: skip


TRIAL_HEADS = ("tried", "zeta", "noises", "energy scales eV", "log likelihood", "cross-validation RMSE")
"""Headers of the columns of `trial_rows`."""


def trial_rows(trials: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Hyper-parameters that were tried, the chosen ones first: energies and virials in eV/atom * sqrt(n_atoms)."""
    return [
        [
            t["name"], "-" if t["zeta"] is None else f"{t['zeta']:g}", _named(t["noises"]),
            " ".join(f"{scale:.3g}" for scale in t["energy_scales"]), f"{t['log_likelihood']:.0f}",
            _named(t["cross_validation_rmse"]),
        ]
        for t in trials
    ]  # fmt: skip


def uncertainty_line(calibration: Calibration, coverage: dict[str, float]) -> str:
    """Scale factors of standard deviations, and the fraction of leave-out errors that they cover."""
    if not coverage:
        return "standard deviations are not calibrated: too few labels"
    parts = [
        f"{coverage[f'{kind}_coverage_1_sigma']:.0%} and {coverage[f'{kind}_coverage_2_sigma']:.0%} ({name})"
        for kind, name in (("force", "forces"), ("energy", "energies"))
        if f"{kind}_coverage_1_sigma" in coverage
    ]
    return (
        f"standard deviations are multiplied by {calibration.described()}; of the errors of "
        f"structures left out {', '.join(parts)} are within one and two of them"
    )


def _named(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
