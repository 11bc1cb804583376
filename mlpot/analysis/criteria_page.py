"""The criteria of a descriptor as a page and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from ..report.html import captioned, contents, good_news, paragraph, section, table, warning, write_page
from ..report.plots import BLUE, RED, image
from .criteria import CRITERIA, Criteria
from .ridge_curve import slope
from .rows import Row
from .sources import symbols

GREEN = "#1e8449"
DECADES = 12
"""Shown on both sides of the limit."""
TEXTS = {
    "invariance": "Changes of features by what must not change them: the largest of 100 rotations, the inversion, translations, "
    "orders of atoms and equivalent cells of a molecule, a crystal, a slab, a wire and a cell that is shorter than the cutoff.",
    "uniqueness": "Whether environments that differ have different features: pairs that need a higher and higher body order, "
    "displacements of neighbours that change no feature in first order, and how well linear maps turn the features into SOAP with "
    "three densities, and back (0: completely, 1: not at all).",
    "continuity": "Jumps of features, their first and second derivatives while a neighbour passes the cutoff or the line through two "
    "atoms, in units of their largest size there. A jump of the second derivative at the cutoff makes forces kink.",
    "efficiency": "Processor time, and the exponents with which it grows.",
    "structure": "The table of features, on random environments.",
    "generality": "Structures that are refused, or have features that are not finite.",
}


def verdict(row: Row) -> str:
    """A word for the last column of a table."""
    return "-" if row.passed is None else "ok" if row.passed else "FAILED"


def number(value: float | None) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if value == round(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row: name, value, unit, limit, verdict, note."""
    return row.name, number(row.value), row.unit, number(row.limit), verdict(row), row.note


HEADS = ("property", "value", "unit", "limit", "", "")


def write_criteria_page(file: Path, found: Criteria) -> None:
    """Write the report as one HTML file without anything from elsewhere, atomically."""
    failed = found.failed
    first = f"{found.name}: elements {' '.join(symbols(found.species))}, cutoff {found.reach:g} A."
    news = (
        warning("not fulfilled: " + "; ".join(f"{row.criterion}: {row.name}" for row in failed), "failed")
        if failed
        else good_news("All properties with a limit are fulfilled.", "passed")
    )
    shown = [name for name in CRITERIA if any(row.criterion == name for row in found.rows)]
    titles = [*shown, *(["learning curve"] if found.curve else [])]
    sections = [paragraph(first), news, contents(titles)]
    if any(row.limit for row in found.rows):
        sections.append(captioned(image(margins_figure(found.rows), "values relative to their limits"), MARGINS))
    for name in shown:
        rows = [cells(row) for row in found.rows if row.criterion == name]
        sections.append(section(name, paragraph(TEXTS[name]), table(rows, HEADS)))
    if found.curve:
        sections.append(section("learning curve", *_curve(found)))
    write_page(file, f"Criteria of {found.name}", sections)


MARGINS = (
    "Values of properties with a limit, in units of that limit: bars that reach to the right of the line fail. Nothing "
    f"measurable is drawn as {DECADES} decades below."
)


def margins_figure(rows: Sequence[Row]) -> Figure:
    """A bar for every property with a limit, on a logarithmic scale around the limit."""
    own = [row for row in rows if row.limit is not None][::-1]
    figure = Figure(figsize=(8, 0.27 * len(own) + 0.9), layout="constrained")
    axes = figure.subplots()
    for k, row in enumerate(own):
        value = _decades(row)
        axes.barh(k, value + DECADES, left=-DECADES, color=RED if row.passed is False else GREEN, height=0.7)
    axes.axvline(0, color="black", lw=1)
    axes.set_yticks(range(len(own)), [f"{row.criterion}: {row.name}" for row in own])
    axes.set_xlim(-DECADES, DECADES)
    axes.xaxis.set_major_locator(FixedLocator([-12, -8, -4, 0, 4, 8]))
    axes.set_xlabel("log10 (value / limit)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _decades(row: Row) -> float:
    """log10 of the value over the limit, within the picture; counts with limit 0 are at the ends."""
    if row.value is None or (not row.limit and row.value > 0):
        return DECADES
    if row.value <= 0 or not row.limit:
        return -DECADES
    return float(np.clip(np.log10(row.value / row.limit), -DECADES, DECADES))


def _curve(found: Criteria) -> list[str]:
    keys = ("n_structures", "energy_rmse_mev_per_atom", "energy_mae_mev_per_atom", "training_rmse_mev_per_atom")
    heads = ("structures", "RMSE meV/atom", "MAE meV/atom", "training RMSE", "composition alone")
    rows = [[number(point[key]) for key in (*keys, "composition_rmse_mev_per_atom")] for point in found.curve]
    falls = slope(found.curve)
    words = "Energies by ridge regression on sums of features over the atoms of each element, on structures held out."
    if falls is not None:
        words += f" The error goes with n^{falls:.2f}."
    return [paragraph(words), table(rows, heads), captioned(image(curve_figure(found), "learning curve"))]


def curve_figure(found: Criteria) -> Figure:
    """Errors against the number of structures."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    n = [point["n_structures"] for point in found.curve]
    for key, name, style in (
        ("energy_rmse_mev_per_atom", "held out", "o-"),
        ("training_rmse_mev_per_atom", "training", "o--"),
        ("composition_rmse_mev_per_atom", "composition alone", ":"),
    ):
        axes.plot(
            n,
            [max(point[key], 1e-12) for point in found.curve],
            style,
            label=name,
            color=BLUE if key[0] == "e" else "grey",
        )
    axes.set(xscale="log", yscale="log", xlabel="structures", ylabel="RMSE of energies (meV/atom)")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend()
    return figure
