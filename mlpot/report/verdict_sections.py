"""The verdict on a run, and what was expected of its energies and stress."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..units import MILLI
from .html import captioned, good_news, table, warning
from .log_file import extremes
from .plots import BLUE, RED, image, plain_logarithm
from .run_data import Run, RunWalker
from .run_plots import N_STRETCHES

ENERGY, STRESS = "expected_energy_error_eV_per_atom", "expected_stress_error_GPa"
"""Columns of log.csv."""


def verdict_box(run: Run) -> list[str]:
    """Verdict, reason and advice of a run that has ended, and the numbers behind them."""
    told = run.state.get("convergence", {})
    if run.holder is not None or "reason" not in told:
        return []
    name, advice = run.state["verdict"], told["advice"]
    text = f"{name[0].upper()}{name[1:]}: {told['reason']}." + (f" What to do: {advice}." if advice else "")
    rows = [(word, _shown(told[key])) for word, key in NUMBERS if told.get(key) is not None]
    return [
        good_news(text, "verdict") if name == "converged" else warning(text, "verdict"),
        table(rows, name="evidence"),
    ]


NUMBERS = (
    ("RMS force error of the last labels eV/Å", "rms_error_of_last_labels"),
    ("labels that is taken from", "n"),
    ("check labels among them", "n_check"),
    ("target eV/Å", "target"),
    ("expected error of the least certain force after learning eV/Å", "expected_error_after_learning"),
    ("steps of all walkers", "steps"),
    ("steps since a label was needed", "steps_since_label_was_needed"),
)


def _shown(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def expected_section(run: Run) -> list[str]:
    """Expected errors of energy and stress along the run, and of the energies of labels compared with their observed errors."""
    columns = [name for name in (ENERGY, STRESS) if not np.isnan(run.log[name]).all()]
    if not columns:
        return []
    rows = [row for walker in run.walkers if (row := _row(run, walker)) is not None]
    content = [
        captioned(
            image(_figure(run, columns), "expected errors of energy and stress"),
            "Standard deviations of the energy per atom and of the least certain component of the stress, as predicted at every "
            "step. Every stretch of a line shows its lowest and its highest value.",
        ),
        table(rows, HEADS, "expected"),
    ]
    pairs = _energies_of_labels(run)
    if len(pairs):
        errors, expected = np.sqrt(np.mean(pairs**2, axis=0))
        rows = [(len(pairs), f"{errors:.2f}", f"{expected:.2f}")]
        content.append(table(rows, ("labels", "RMS energy error meV/atom", "expected meV/atom"), "energy-errors"))
    return content


HEADS = (
    "walker", "energy meV/atom, median", "largest", "last", "stress GPa, median", "largest", "last",
)  # fmt: skip


def _row(run: Run, walker: RunWalker) -> tuple | None:
    cells: list[str] = []
    for name, unit in ((ENERGY, MILLI), (STRESS, 1.0)):
        values = run.log[name][run.of(walker)] / unit
        values = values[~np.isnan(values)]
        numbers = (np.median(values), values.max(), values[-1]) if len(values) else ()
        cells += [f"{value:.3g}" for value in numbers] or ["-"] * 3
    return None if set(cells) == {"-"} else (walker.name, *cells)


def _energies_of_labels(run: Run) -> np.ndarray:
    """Errors and expected errors (n, 2), meV/atom, of the energies of labels that were predicted before."""
    log = run.log
    expected = dict(zip(zip(log["walker"], log["step"], strict=True), log[ENERGY] / MILLI, strict=True))
    found = [
        (label.energy_error, expected.get((label.walker, label.values.get("walker_step")), np.nan))
        for label in run.predicted
    ]
    pairs = np.reshape(found, (-1, 2))
    return pairs[~np.isnan(pairs).any(axis=1)]


def _figure(run: Run, columns: list[str]) -> Figure:
    figure = Figure(figsize=(8, 1 + 1.8 * len(columns)), layout="constrained")
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    looks = {ENERGY: (MILLI, BLUE, "energy / (meV/atom)"), STRESS: (1.0, RED, "stress / GPa")}
    for axes, name in zip(panels, columns, strict=True):
        unit, colour, title = looks[name]
        for walker in run.walkers:
            here = run.of(walker)
            values = run.log[name][here] / unit
            kept = extremes(values, N_STRETCHES)
            axes.semilogy(run.log["step"][here][kept], values[kept], color=colour, lw=0.7)
        axes.set_ylabel(title)
        plain_logarithm(axes.yaxis)
    panels[-1].set_xlabel("step")
    return figure
