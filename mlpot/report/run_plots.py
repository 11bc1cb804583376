"""Figures of a learning run: its course, what labels showed, how far its uncertainty could be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..learning.log_format import QUEUED
from ..units import MILLI
from .log_file import extremes
from .plots import BLUE, GREY, RED, parity, plain_logarithm
from .run_data import Run, RunLabel, RunWalker

KINDS = {
    "no model": ("#222222", "s", "no model yet"),
    "untried": ("#777777", "D", "first look at a model"),
    "uncertain": (RED, "o", "uncertain"),
    "novel": ("#8e44ad", "D", "novel"),
    "apart": ("#17becf", "X", "atom beyond the cutoff from all others"),
    "soft": ("#e08e0b", "v", "soft"),
    "check": ("#1e8449", "^", "check"),
    "found": ("#2e86c1", "p", "found after a kill"),
    "confirm": ("#117864", "*", "end of a relaxation"),
    "failed": (GREY, "x", "failed"),
}
"""Reasons of labels: colour, marker, name; one look in all figures."""
N_STRETCHES = 1000
"""Stretches of a line; each shows its lowest and its highest value."""


def timeline_figure(run: Run, walker: RunWalker) -> Figure:
    """Temperature, energy, and expected force error with its threshold against time; labels are marked by reason.

    Where a server runs the dynamics time is in steps, and there is no temperature.
    """
    log = {name: column[run.of(walker)] for name, column in run.log.items()}
    time, unit_of_time = _times(log)
    energy, unit = _per_atom(log["energy_eV"], walker)
    error = log["expected_error_eV_per_A"]
    curves = [(log["temperature_K"], "T / K"), (energy, unit)]
    shown = [(values, title) for values, title in curves if not np.isnan(values).all()]
    figure = Figure(figsize=(8, 2 + 1.8 * len(shown)), layout="constrained")
    *panels, bottom = figure.subplots(1 + len(shown), 1, sharex=True, height_ratios=[1] * len(shown) + [1.4])
    for axes, (values, title) in zip(panels, shown, strict=True):
        kept = extremes(values, N_STRETCHES)
        axes.plot(time[kept], values[kept], color=BLUE, lw=0.7)
        axes.set_ylabel(title)
    kept = extremes(error, N_STRETCHES)
    bottom.semilogy(time[kept], error[kept], color=BLUE, lw=0.7, label="expected")
    kept = extremes(log["threshold"], N_STRETCHES)
    bottom.semilogy(time[kept], log["threshold"][kept], color="black", lw=1.2, label="threshold")
    _mark_labels(((panels[-1], energy), (bottom, error)), time, log)
    bottom.set_ylabel("error of the least\ncertain force / (eV/Å)")
    plain_logarithm(bottom.yaxis)
    bottom.set_xlabel(unit_of_time)
    figure.legend(*bottom.get_legend_handles_labels(), loc="outside upper center", ncols=8, fontsize=8, frameon=False)
    return figure


def _times(log: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Horizontal axis of every row, and its label."""
    if np.isnan(log["time_fs"][-1]):
        return log["step"], "step"
    return (log["time_fs"] * MILLI, "time / ps") if log["time_fs"][-1] > 2000 else (log["time_fs"], "time / fs")


def _per_atom(energy: np.ndarray, walker: RunWalker) -> tuple[np.ndarray, str]:
    if walker.numbers is None:
        return energy - energy[0], f"E − ({energy[0]:.2f} eV) / eV"
    n_atoms = len(walker.numbers)
    return (energy - energy[0]) / n_atoms / MILLI, "(E − E₀) / N\n/ (meV/atom)"


def _mark_labels(panels: Sequence[tuple], time: np.ndarray, log: dict[str, np.ndarray]) -> None:
    """Labels of each kind in each panel; where nothing was expected yet they sit on the time axis."""
    asked = (log["labelled"] > 0) | np.isin(log["reason"], [*QUEUED, "failed"])
    for reason, (colour, marker, name) in KINDS.items():
        here = asked & (log["reason"] == reason)
        if not here.any():
            continue
        style = {"color": colour, "marker": marker, "ms": 5, "ls": "", "zorder": 3}
        for axes, values in panels:
            axes.plot(time[here], values[here], **style, label=f"{name} ({here.sum()})")
            if (on_axis := here & np.isnan(values)).any():
                marks = axes.plot(time[on_axis], np.zeros(on_axis.sum()), **style, transform=axes.get_xaxis_transform())
                marks[0].set(clip_on=False, in_layout=False)


def learning_figure(labels: Sequence[RunLabel]) -> Figure:
    """Errors of what was predicted before it was learned: against the number of labels, and force by force."""
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
    known = np.arange(1, len(labels) + 1)
    told = [(k, label) for k, label in zip(known, labels, strict=True) if label.was_predicted]
    expected = [(k - 1, label.expected_rms) for k, label in told]
    left.semilogy(*zip(*expected, strict=True), color=GREY, marker="_", ms=9, ls="", label="expected")
    for reason, (colour, marker, name) in KINDS.items():
        points = [(k - 1, label.values["force_error"]) for k, label in told if label.reason == reason]
        if points:
            checks = {"ls": "-", "lw": 1, "ms": 7, "zorder": 3} if reason == "check" else {"ls": "", "ms": 5}
            left.semilogy(*zip(*points, strict=True), color=colour, marker=marker, label=name, **checks)
    left.set_xlabel("labels learned before")
    left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left.set_ylabel("RMS force error / (eV/Å)")
    left.legend(fontsize=8)
    left.grid(alpha=0.2)
    plain_logarithm(left.yaxis)
    some = [label for _, label in told]
    forces = np.concatenate([np.ravel(label.row.forces) for label in some])
    errors = np.concatenate([np.ravel(label.errors) for label in some])
    thin = np.random.default_rng(0).permutation(len(forces))[:20000]
    parity(right, forces[thin], (forces + errors)[thin], "forces before they were learned / (eV/Å)")
    return figure


def calibration_figure(labels: Sequence[RunLabel], ratios: np.ndarray) -> Figure:
    """Expected against occurred errors, errors over deviations of all components (n,), the scale over the labels."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for reason, (colour, marker, name) in KINDS.items():
        points = [(label.expected_rms, label.values["force_error"]) for label in labels if label.reason == reason]
        if points:
            left.loglog(*zip(*points, strict=True), color=colour, marker=marker, ms=5, ls="", label=name)
    both = np.array([(label.expected_rms, label.values["force_error"]) for label in labels])
    ends = np.array([np.nanmin(both) / 1.3, np.nanmax(both) * 1.3])
    left.plot(ends, ends, color="black", lw=1)
    left.fill_between(ends, ends / 2, 2 * ends, color=GREY, alpha=0.2, lw=0, label="factor of two")
    left.set_xlabel("expected RMS error / (eV/Å)")
    left.set_ylabel("occurred / (eV/Å)")
    left.set_title("label by label", fontsize=10)
    plain_logarithm(left.xaxis, left.yaxis)
    left.legend(fontsize=7)
    _normalised(middle, ratios)
    right.plot(np.arange(1, len(labels) + 1), [label.scale for label in labels], color=BLUE, marker=".", lw=1)
    right.set_ylim(bottom=0)
    right.set_xlabel("label (those predicted before)")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.set_ylabel("factor on raw deviations")
    right.set_title("scale of the calibration", fontsize=10)
    right.grid(alpha=0.2)
    return figure


def _normalised(axes, ratios: np.ndarray) -> None:
    """Distribution of errors in units of the predicted standard deviations."""
    axes.set_title("errors / predicted deviations", fontsize=10)
    if not len(ratios):
        axes.text(0.5, 0.5, "not kept by this run", ha="center", transform=axes.transAxes)
        return
    edges = np.linspace(-4.5, 4.5, 46)
    shares = np.histogram(np.clip(ratios, -4.49, 4.49), edges)[0] / len(ratios) / (edges[1] - edges[0])
    axes.stairs(shares, edges, color=BLUE, fill=True, alpha=0.5, label="force components")
    x = np.linspace(-4.5, 4.5, 181)
    axes.plot(x, np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi), color="black", lw=1, label="normal")
    axes.set_xlabel("error / deviation (ends: beyond)")
    axes.set_ylabel("density")
    axes.legend(fontsize=7)
