"""Errors as rows of text."""

from __future__ import annotations

from collections.abc import Iterable

from ..models.report import Errors

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
"""What the columns of `error_rows` are."""


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


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
