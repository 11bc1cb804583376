"""Figures; each function returns one, nothing is shown and nothing global is touched."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..durable import atomic_write
from ..models.calibration import SYMMETRIC, binned, coverage
from ..models.report import Comparison, energy_errors, force_errors

MOST_DECADES = 60.0
"""Ratio of the ends of a logarithmic axis from which on only decades have ticks."""
BLUE, RED, GREY = "#2f6f9f", "#c0392b", "#888888"


def save(figure: Figure, file: str | Path) -> None:
    """Write a figure in the format that the file's ending names."""
    kind = Path(file).suffix.lstrip(".") or "png"
    with atomic_write(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def image(figure: Figure, says: str = "plot") -> str:
    """A figure as an <img> element that needs no other file; `says` is what it shows, for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(says)}" src="data:image/png;base64,{data}">'


def parity_figure(comparisons: Sequence[Comparison]) -> Figure:
    """Energies per atom and force components, predicted against labelled; below, errors against predicted deviations, without
    the forces that symmetry makes zero."""
    told = any(c.energy_std is not None for c in comparisons)
    figure = Figure(figsize=(9, 8 if told else 4), layout="constrained")
    axes = figure.subplots(2 if told else 1, 2, squeeze=False)
    left, right = axes[0]
    if told:
        errors, deviations = force_errors(comparisons)
        uncertain = deviations > SYMMETRIC
        of_forces = errors[uncertain], deviations[uncertain]
        lower_left, lower_right = axes[1]
        kinds = {"forces / (eV/A)": of_forces, "energies / eV": energy_errors(comparisons)}
        _calibration(lower_left, lower_right, kinds)
    with_energy = [c for c in comparisons if c.energy_per_atom is not None]
    labels = np.array([c.structure.energy / c.structure.n_atoms for c in with_energy])
    parity(left, labels, labels + [c.energy_per_atom for c in with_energy], "energy / (eV/atom)")
    with_forces = [c for c in comparisons if c.forces is not None]
    forces = np.concatenate([np.ravel(c.structure.forces) for c in with_forces] or [np.empty(0)])
    differences = np.concatenate([np.ravel(c.forces) for c in with_forces] or [np.empty(0)])
    parity(right, forces, forces + differences, "forces / (eV/A)")
    return figure


def _calibration(left, right, kinds: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """RMS errors of bins against the deviations predicted there, and the part of errors within any number of deviations."""
    numbers = np.linspace(0, 4, 81)
    right.plot(numbers, [math.erf(n / math.sqrt(2)) for n in numbers], color=GREY, lw=1, label="normal distribution")
    ends = []
    for (name, (errors, deviations)), colour in zip(kinds.items(), (BLUE, RED), strict=True):
        if not len(errors):
            continue
        predicted, occurred = binned(errors, deviations)
        ends += [predicted.min(), predicted.max()]
        left.loglog(predicted, occurred, "o-", color=colour, ms=4, label=name)
        right.plot(numbers, [coverage(errors, deviations, n) for n in numbers], color=colour, label=name)
    if ends:
        left.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, lw=1)
        plain_logarithm(left.xaxis, left.yaxis)
        left.legend(fontsize=8)
    left.set_xlabel("predicted deviation, rms of a bin")
    left.set_ylabel("error, rms of a bin")
    left.set_title("calibration", fontsize=10)
    right.set_xlabel("number of deviations")
    right.set_ylabel("part of the errors within")
    right.legend(fontsize=8)


def plain_logarithm(*axes) -> None:
    """Ticks written out on logarithmic axes (matplotlib's Axis) that have their data: at 1, 2, 5 of every decade, or of many
    decades at 1."""
    for axis in axes:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < MOST_DECADES * low else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def parity(axes, labelled: np.ndarray, predicted: np.ndarray, title: str) -> None:
    """Predicted against labelled values (n,), with the diagonal."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("labelled")
    axes.set_ylabel("predicted")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if not len(labelled):
        axes.text(0.5, 0.5, "no labels", ha="center", transform=axes.transAxes)
        return
    ends = [min(labelled.min(), predicted.min()), max(labelled.max(), predicted.max())]
    axes.plot(ends, ends, color=GREY, lw=1)
    axes.plot(labelled, predicted, ".", color=BLUE, ms=3, alpha=0.6)
