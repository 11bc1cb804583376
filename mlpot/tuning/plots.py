"""Pictures of a search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..report.plots import BLUE, GREY, RED, plain_logarithm
from ..units import MILLI
from .front import Candidate, mean_log
from .journal import Trial
from .space import Range, Space


def known(trials: Sequence[Trial]) -> list[Trial]:
    """Trials of the first step that have errors."""
    first = [t for t in trials if t.step in ("features", "joint")]
    return [t for t in first if t.outcome is not None and t.outcome.failure is None]


def error_of(trial: Trial) -> float:
    """Geometric mean of the errors of forces (eV/A) and energies (eV/atom), or the one that there is."""
    outcome = trial.outcome
    return float(np.exp(mean_log(outcome.forces, outcome.energies))) if outcome is not None else np.nan


def convergence_figure(trials: Sequence[Trial]) -> Figure:
    """Errors of the trials in their order, and the best so far."""
    found = known(trials)
    kinds = [("forces", "forces / (meV/A)"), ("energies", "energies / (meV/atom)")]
    kinds = [(name, title) for name, title in kinds if any(getattr(t.outcome, name) for t in found)]
    figure = Figure(figsize=(5 * len(kinds), 3.5), layout="constrained")
    for panel, (name, title) in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        values = np.array([getattr(t.outcome, name) for t in found]) / MILLI
        panel.semilogy([t.number for t in found], values, ".", color=GREY, label="trials")
        panel.semilogy([t.number for t in found], np.minimum.accumulate(values), "-", color=BLUE, label="best so far")
        panel.set(title=title, xlabel="trial")
        plain_logarithm(panel.yaxis)
        panel.legend(fontsize=8)
    return figure


def coordinates_figure(trials: Sequence[Trial], space: Space) -> Figure:
    """Parallel coordinates: a line for each trial, through its settings; the darker, the smaller the error."""
    found = sorted(known(trials), key=error_of, reverse=True)
    figure = Figure(figsize=(max(1.5 * space.dimension, 5), 4.2), layout="constrained")
    axes = figure.subplots()
    ranks = np.linspace(0.0, 1.0, max(len(found), 2))
    for trial, rank in zip(found, ranks, strict=False):
        best = trial is found[-1]
        colour, width, alpha = (RED, 2.0, 1.0) if best else (BLUE, 0.8, 0.05 + 0.6 * rank**3)
        axes.plot(range(space.dimension), space.point(trial.values), "-", color=colour, lw=width, alpha=alpha)
    for k, p in enumerate(space.parameters):
        ends = (f"{p.low:g}", f"{p.high:g}") if isinstance(p, Range) else (str(p.options[0]), str(p.options[-1]))
        axes.axvline(k, color=GREY, lw=0.6)
        axes.text(k, -0.03, ends[0], ha="center", va="top", fontsize=8)
        axes.text(k, 1.03, ends[1], ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(space.dimension), [str(p.path) for p in space.parameters], rotation=25, ha="right", fontsize=8)
    axes.tick_params(axis="x", pad=14)
    axes.set_yticks([])
    axes.set_ylim(-0.02, 1.02)
    axes.spines[:].set_visible(False)
    return figure


def front_figure(trials: Sequence[Trial], pareto: Sequence[Candidate], default: Candidate) -> Figure:
    """Errors of forces (or energies) on structures that no trial saw against the cost; trials as small points."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    name = "forces" if any(c.tested and c.tested[0].forces is not None for c in pareto) else "energies"
    timed = [t for t in known(trials) if t.outcome and t.outcome.cost]
    if timed:
        errors = [getattr(t.outcome, name) / MILLI for t in timed]
        axes.loglog([t.outcome.cost for t in timed if t.outcome], errors, ".", color=GREY, ms=3, label="trials (left-out groups)")
    for label, colour, marker, group in (("front (tested)", BLUE, "o-", pareto), ("as given (tested)", RED, "s", [default])):
        tested = [c.tested[0] for c in group if c.tested and c.tested[0].failure is None]
        points = sorted((o.cost, getattr(o, name) / MILLI) for o in tested if o.cost)
        if points:
            axes.loglog(*zip(*points, strict=True), marker, color=colour, label=label)
    axes.set(xlabel="cost / (us/atom)", ylabel=f"{name}, MAE / (meV/{'A' if name == 'forces' else 'atom'})")
    plain_logarithm(axes.xaxis, axes.yaxis)
    axes.legend(fontsize=8)
    return figure


def importances(trials: Sequence[Trial], space: Space) -> list[tuple[str, float]]:
    """Part of the variance of the logarithm of the error that a smooth function of each setting alone explains, largest first.

    The function is a parabola for ranges and a mean for each choice; parts need not add up to 1.
    """
    found = known(trials)
    errors = np.log([error_of(t) for t in found])
    points = np.array([space.point(t.values) for t in found]).reshape(len(found), space.dimension)
    total = float(np.sum((errors - errors.mean()) ** 2)) if len(found) > 3 else 0.0
    parts = []
    for k, p in enumerate(space.parameters):
        x = points[:, k]
        levels = [x == value for value in np.unique(x)]
        columns = np.vander(x, 3) if isinstance(p, Range) else np.array(levels, float).T
        fitted = columns @ np.linalg.lstsq(columns, errors, rcond=None)[0] if total > 0 else errors
        parts.append((str(p.path), 1 - float(np.sum((errors - fitted) ** 2)) / total if total > 0 else 0.0))
    return sorted(parts, key=lambda part: -part[1])


def importance_figure(parts: Sequence[tuple[str, float]]) -> Figure:
    """Bars of `importances`."""
    figure = Figure(figsize=(6, 0.35 * len(parts) + 1.0), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in parts][::-1], [100 * part for _, part in parts][::-1], color=BLUE)
    axes.set_xlabel("explained variance of log(error) / %")
    axes.set_xlim(0, 100)
    return figure
