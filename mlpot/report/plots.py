"""Figures; each function returns one, nothing is shown and nothing global is touched."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..durable import atomic_write
from ..errors import required
from ..models.evaluate import Comparison, energy_errors, force_errors
from ..structures import stress_voigt
from ..uncertainty.calibration import SYMMETRIC, binned, coverage
from ..units import GIGAPASCAL, MILLI

MOST_DECADES = 60.0
"""Ratio of the ends of a logarithmic axis from which on only decades have ticks."""
BLUE, RED, GREY = "#2f6f9f", "#c0392b", "#888888"
COLOURS = (BLUE, RED, "#2e8b57", "#d98e04", "#7d3c98", "#17a2b8", "#8d5524", "#e377c2")


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
    """Energies per atom, force components and, where there are any, stress components, predicted against labelled, in a colour for
    every config_type; below, errors against predicted deviations, without the forces that symmetry makes zero."""
    told = any(c.energy_std is not None for c in comparisons)
    panels = [kind for kind in KINDS if kind.name != "stress" or any(c.stress is not None for c in comparisons)]
    figure = Figure(figsize=(4.5 * len(panels), 8 if told else 4), layout="constrained")
    axes = figure.subplots(2 if told else 1, len(panels), squeeze=False)
    colours = family_colours(c.structure.config_type for c in comparisons)
    for panel, kind in zip(axes[0], panels, strict=True):
        with_label = [c for c in comparisons if kind.error(c) is not None]
        labels, errors = ([np.ravel(values(c)) for c in with_label] for values in (kind.label, kind.error))
        families = [c.structure.config_type for c, own in zip(with_label, labels, strict=True) for _ in own]
        nothing = [np.empty(0)]
        labelled, error = np.concatenate(labels + nothing), np.concatenate(errors + nothing)
        parity(panel, labelled, labelled + error, kind.title, kind.shown_in)
        if len(colours) > 1:
            _recolour(panel, labelled, labelled + error, np.array(families), colours)
    if told:
        found, deviations = force_errors(comparisons)
        uncertain = deviations > SYMMETRIC
        of_forces = found[uncertain], deviations[uncertain]
        lower_left, lower_right, *free = axes[1]
        kinds = {"forces / (eV/A)": of_forces, "energies / eV": energy_errors(comparisons)}
        _calibration(lower_left, lower_right, kinds)
        for panel in free:
            panel.set_axis_off()
    return figure


@dataclass(frozen=True)
class Kind:
    """A kind of label in parity plots: numbers of a label and of its error, and a factor and unit for what is written of these."""

    name: str
    title: str
    shown_in: tuple[float, str]
    label: Callable[[Comparison], Any]
    error: Callable[[Comparison], Any]


KINDS = (
    Kind(
        "energy", "energy / (eV/atom)", (1 / MILLI, "meV/atom"),
        lambda c: required(c.structure.energy, "energy") / c.structure.n_atoms, lambda c: c.energy_per_atom,
    ),
    Kind("forces", "forces / (eV/A)", (1.0, "eV/A"), lambda c: c.structure.forces, lambda c: c.forces),
    Kind(
        "stress", "stress / GPa", (1.0, "GPa"),
        lambda c: stress_voigt(-required(c.structure.virial, "virial") / c.structure.atoms.get_volume()) / GIGAPASCAL,
        lambda c: None if c.stress is None else stress_voigt(c.stress) / GIGAPASCAL,
    ),
)  # fmt: skip


def family_colours(families: Iterable[str]) -> dict[str, str]:
    """A colour for every config_type: the largest have colours of their own, all others are grey."""
    counts = Counter(families)
    ordered = [name for name, _ in counts.most_common()]
    own = ordered if len(ordered) <= len(COLOURS) else ordered[: len(COLOURS) - 1]
    return {name: COLOURS[own.index(name)] if name in own else GREY for name in ordered}


def _recolour(axes, labelled: np.ndarray, predicted: np.ndarray, families: np.ndarray, colours: dict[str, str]) -> None:
    """The points of a parity plot drawn again, family by family, with a legend."""
    others = 0
    for name, colour in colours.items():
        own = families == name
        if own.any():
            others += colour == GREY
            text = name if colour != GREY else "others" if others == 1 else None
            axes.plot(labelled[own], predicted[own], ".", color=colour, ms=3, label=text)
    if len(labelled):
        axes.legend(fontsize=7, markerscale=2, loc="lower right")


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


def parity(
    axes, labelled: np.ndarray, predicted: np.ndarray, title: str, shown_in: tuple[float, str] = (1.0, "eV/A")
) -> None:
    """Predicted against labelled values (n,), with the diagonal, and RMSE and MAE times a factor in a unit."""
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
    factor, unit = shown_in
    errors = factor * (predicted - labelled)
    text = f"RMSE {np.sqrt(np.mean(errors**2)):.3g} {unit}\nMAE {np.mean(np.abs(errors)):.3g} {unit}"
    axes.text(0.04, 0.96, text, va="top", fontsize=8, transform=axes.transAxes)
