"""Pictures of studies: a learning curve with its costs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ..fitting.studies import StudyRow
from ..models.report import Errors
from .plots import BLUE, GREY, RED, plain_logarithm

PANELS = (("force_rmse_ev_per_ang", "forces, RMSE / (eV/A)"), ("energy_rmse_mev_per_atom", "energies, RMSE / (meV/atom)"))


def learning_curve_figure(rows: Sequence[StudyRow]) -> Figure:
    """Errors on structures held out and on the training data, and costs, against the number of structures."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for panel, (kind, title) in zip(axes, PANELS, strict=False):
        _lines(panel, rows, kind)
        panel.set_title(title, fontsize=10)
    cost = axes[2]
    n = [row.n_structures for row in rows]
    cost.loglog(n, [row.fit_seconds for row in rows], "o-", color=BLUE, label="fit / s")
    cost.loglog(n, [row.us_per_atom for row in rows], "s-", color=RED, label="step / (us/atom)")
    cost.set_title("cost", fontsize=10)
    for panel in axes:
        panel.set_xlabel("structures")
        if panel.lines:
            plain_logarithm(panel.xaxis, panel.yaxis)
            panel.legend(fontsize=8)
    return figure


def _lines(panel, rows: Sequence[StudyRow], kind: str) -> None:
    for name, colour, part in (("held out", BLUE, "test"), ("training", GREY, "training")):
        points = [(row.n_structures, value) for row in rows if (value := _value(getattr(row, part), kind))]
        if points:
            panel.loglog(*zip(*points, strict=True), "o-", color=colour, label=name)
    if not panel.lines:
        panel.text(0.5, 0.5, "no labels", ha="center", transform=panel.transAxes)


def _value(errors: Errors, kind: str) -> float | None:
    return getattr(errors, kind)
