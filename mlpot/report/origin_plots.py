"""Figures of a learning run: where its labels came from, what they cost, what the trajectories look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .costs import Costs
from .environment_map import EnvironmentMap
from .plots import BLUE, GREY, RED, plain_logarithm
from .radial import RadialDistribution
from .run_data import RunLabel
from .run_plots import KINDS

COLOURS = (BLUE, "#e08e0b", "#8e44ad", "#1e8449", "#16a2b8", "#7f5539", "#d16ba5", "#5c677d")


def atoms_figure(counts: np.ndarray, symbols: Sequence[str]) -> Figure:
    """Number of labels in which each atom was the least certain one, (n_atoms,)."""
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(dict.fromkeys(symbols), COLOURS * (len(symbols) // len(COLOURS) + 1), strict=False))
    axes.bar(np.arange(len(counts)), counts, color=[colours[symbol] for symbol in symbols], width=0.9)
    axes.set_xlabel("index of the atom")
    axes.set_ylabel("labels")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(colours) > 1:
        for symbol, colour in colours.items():
            axes.bar(0, 0, color=colour, label=symbol)
        axes.legend(fontsize=8, ncols=len(colours))
    return figure


def map_figure(maps: Sequence[EnvironmentMap]) -> Figure:
    """A panel per element: where trajectories were, and labels by their number."""
    n_columns = min(len(maps), 2)
    n_rows = -(-len(maps) // n_columns)
    figure = Figure(figsize=(4.8 * n_columns + 0.8, 4.2 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    most = max(int(found.label.max(initial=0)) for found in maps) + 1
    for axes, found in zip(panels, maps, strict=False):
        axes.scatter(*found.visited.T, s=6, color="#c9ced6", lw=0, label="trajectory")
        points = axes.scatter(
            *found.labelled.T, s=9, c=found.label + 1, cmap="viridis", vmin=1, vmax=max(most, 2), lw=0, label="labelled"
        )
        least = found.labelled[found.least_certain]
        if len(least):
            axes.scatter(*least.T, s=42, facecolors="none", edgecolors=RED, lw=1, label="least certain of its label")
        axes.set_title(
            f"{chemical_symbols[found.number]} (n = {len(found.labelled)} + {len(found.visited)})", fontsize=10
        )
        axes.set_xlabel(f"1st component ({found.explained[0]:.0%})")
        axes.set_ylabel(f"2nd component ({found.explained[1]:.0%})")
        axes.set_xticks([])
        axes.set_yticks([])
    for axes in panels[len(maps) :]:
        axes.axis("off")
    panels[0].legend(fontsize=8)
    bar = figure.colorbar(points, ax=panels.tolist(), label="number of the label", shrink=0.8)
    bar.locator = MaxNLocator(integer=True, min_n_ticks=1)
    return figure


def costs_figure(costs: Costs, labels: Sequence[RunLabel]) -> Figure:
    """Breakdown of the wall time, core hours compared with plain ab initio dynamics, and the cost of each label."""
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.4])
    parts = {
        "prediction": (costs.dynamics, BLUE),
        "refit": (costs.refit, "#e08e0b"),
        "labels": (costs.waiting, RED),
        "rest": (costs.rest, GREY),
    }
    bars = left.bar(list(parts), [value for value, _ in parts.values()], color=[colour for _, colour in parts.values()])
    left.bar_label(bars, [f"{value / max(costs.wall, 1e-300):.0%}" for value, _ in parts.values()], fontsize=8)
    left.set_ylabel("wall time / s")
    left.tick_params(axis="x", labelrotation=30)
    hours = [costs.core_hours, costs.plain_core_hours]
    middle.bar_label(middle.bar(["this run", "plain\nab initio"], hours, color=[BLUE, RED]), fmt="%.3g", fontsize=8)
    middle.set_ylabel("core hours")
    if costs.n_labels:
        middle.set_title(f"{costs.factor:.3g} times less", fontsize=10)
    _prices(right, labels)
    return figure


def _prices(axes, labels: Sequence[RunLabel]) -> None:
    for reason, (colour, marker, name) in KINDS.items():
        points = [(k, label.values["label_seconds"]) for k, label in enumerate(labels, 1) if label.reason == reason]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=4, ls="", label=name)
    refits = [
        (k, label.values["refit_seconds"]) for k, label in enumerate(labels, 1) if "refit_seconds" in label.values
    ]
    if refits:
        axes.plot(*zip(*refits, strict=True), color=GREY, lw=1, label="refit")
    axes.set_xlabel("label")
    axes.set_ylabel("wall time / s")
    axes.set_title("price of a label", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if labels:
        axes.set_yscale("log")
        plain_logarithm(axes.yaxis)
        axes.legend(fontsize=7)


def radial_figure(
    ours: Mapping[str, Mapping[tuple[int, int], RadialDistribution]],
    references: Mapping[str, Mapping[tuple[int, int], RadialDistribution]],
) -> Figure:
    """g(r) of walkers and of reference trajectories, by name; a panel per pair of elements."""
    pairs = sorted({pair for found in references.values() for pair in found})
    n_columns = min(len(pairs), 2)
    n_rows = -(-len(pairs) // n_columns)
    figure = Figure(figsize=(4.8 * n_columns, 3.4 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, pair in zip(panels, pairs, strict=False):
        for k, (name, found) in enumerate(references.items()):
            if pair in found:
                axes.plot(
                    found[pair].radii, found[pair].values, color="black", lw=2.2, ls=("-", "--", ":")[k % 3], label=name
                )
        for (name, found), colour in zip(ours.items(), COLOURS * len(ours), strict=False):
            if pair in found:
                axes.plot(found[pair].radii, found[pair].values, color=colour, lw=1.2, label=name)
        axes.set_title("–".join(chemical_symbols[z] for z in pair), fontsize=10)
        axes.set_xlabel("r / Å")
        axes.set_ylabel("g(r)")
        axes.legend(fontsize=7)
    for axes in panels[len(pairs) :]:
        axes.axis("off")
    return figure
