"""Figures; each function returns one, nothing is shown and nothing global is touched."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..durable import atomic_write
from ..models.calibration import UNCALIBRATED, Calibration, binned, coverage
from ..models.report import Comparison, energy_errors, force_errors
from ..units import MILLI

BLUE, RED, GREY = "#2f6f9f", "#c0392b", "#888888"


def save(figure: Figure, file: str | Path) -> None:
    """Write a figure in the format that the file's ending names."""
    kind = Path(file).suffix.lstrip(".") or "png"
    with atomic_write(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def image(figure: Figure) -> str:
    """A figure as an <img> element that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f'<img alt="plot" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def timeline_figure(log: dict[str, np.ndarray]) -> Figure:
    """Temperature, energy, and uncertainty with its threshold, against time; labelled steps are marked."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    time, labelled = log["time_fs"], log["labelled"] > 0
    top.plot(time, log["temperature_K"], color=BLUE, lw=0.8)
    top.set_ylabel("temperature / K")
    middle.plot(time, log["energy_eV"], color=BLUE, lw=0.8)
    middle.plot(time[labelled], log["energy_eV"][labelled], "o", color=RED, ms=4, label="labelled")
    middle.set_ylabel("potential energy / eV")
    middle.legend()
    bottom.semilogy(time, log["max_energy_std_eV"] / MILLI, color=BLUE, lw=0.8, label="largest uncertainty of an atom")
    bottom.semilogy(time, log["threshold"] / MILLI, color=GREY, lw=1.2, label="threshold")
    bottom.plot(time[labelled], log["max_energy_std_eV"][labelled] / MILLI, "o", color=RED, ms=4, label="labelled")
    bottom.set_ylabel("uncertainty / meV")
    bottom.set_xlabel("time / fs")
    bottom.legend(loc="upper right", ncols=3, fontsize=8)
    return figure


def learning_figure(predicted: np.ndarray, labelled: np.ndarray, errors: np.ndarray, deviations: np.ndarray) -> Figure:
    """Forces predicted before they were learned against the labels, and the error from label to label.

    Parameters
    ----------
    predicted, labelled : (n,) arrays
        Force components, eV/A.
    errors, deviations : (n_labels,) arrays
        RMS force error, eV/A, and the largest uncertainty of an atom before learning, eV.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _parity(left, labelled, predicted, "forces before they were learned / (eV/A)")
    right.plot(np.arange(1, len(errors) + 1), errors, "o-", color=RED, label="RMS force error / (eV/A)")
    right.plot(np.arange(1, len(errors) + 1), deviations, "s--", color=BLUE, label="uncertainty / eV")
    right.set_yscale("log")
    right.set_xlabel("label (those with a prediction before)")
    right.legend()
    return figure


def timing_figure(log: dict[str, np.ndarray]) -> Figure:
    """Wall time of every step, labelled and predicted, and where it went in total."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    labelled = log["labelled"] > 0
    for which, colour, name in ((~labelled, BLUE, "predicted"), (labelled, RED, "labelled and learned")):
        left.semilogy(log["step"][which], log["seconds"][which], ".", color=colour, ms=3, label=name)
    left.set_xlabel("step")
    left.set_ylabel("wall time / s")
    left.legend()
    totals = [log["seconds"][~labelled].sum(), log["seconds"][labelled].sum()]
    right.bar(["predicted", "labelled"], totals, color=[BLUE, RED])
    right.set_ylabel("total / s")
    return figure


def parity_figure(comparisons: Sequence[Comparison], used: Calibration = UNCALIBRATED) -> Figure:
    """Energies per atom and force components, predicted against labelled; below, errors against predicted deviations, without
    the forces that symmetry makes zero, which the calibration that was `used` tells."""
    told = any(c.energy_std is not None for c in comparisons)
    figure = Figure(figsize=(9, 8 if told else 4), layout="constrained")
    axes = figure.subplots(2 if told else 1, 2, squeeze=False)
    left, right = axes[0]
    if told:
        errors, deviations = force_errors(comparisons)
        uncertain = used.uncertain(deviations)
        of_forces = errors[uncertain], deviations[uncertain]
        lower_left, lower_right = axes[1]
        kinds = {"forces / (eV/A)": of_forces, "energies / eV": energy_errors(comparisons)}
        _calibration(lower_left, lower_right, kinds)
    with_energy = [c for c in comparisons if c.energy_per_atom is not None]
    labels = np.array([c.structure.energy / c.structure.n_atoms for c in with_energy])
    _parity(left, labels, labels + [c.energy_per_atom for c in with_energy], "energy / (eV/atom)")
    with_forces = [c for c in comparisons if c.forces is not None]
    forces = np.concatenate([np.ravel(c.structure.forces) for c in with_forces] or [np.empty(0)])
    differences = np.concatenate([np.ravel(c.forces) for c in with_forces] or [np.empty(0)])
    _parity(right, forces, forces + differences, "forces / (eV/A)")
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
        left.legend(fontsize=8)
    left.set_xlabel("predicted deviation, rms of a bin")
    left.set_ylabel("error, rms of a bin")
    left.set_title("calibration", fontsize=10)
    right.set_xlabel("number of deviations")
    right.set_ylabel("part of the errors within")
    right.legend(fontsize=8)


def _parity(axes, labelled: np.ndarray, predicted: np.ndarray, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("labelled")
    axes.set_ylabel("predicted")
    if not len(labelled):
        axes.text(0.5, 0.5, "no labels", ha="center", transform=axes.transAxes)
        return
    ends = [min(labelled.min(), predicted.min()), max(labelled.max(), predicted.max())]
    axes.plot(ends, ends, color=GREY, lw=1)
    axes.plot(labelled, predicted, ".", color=BLUE, ms=3, alpha=0.6)
