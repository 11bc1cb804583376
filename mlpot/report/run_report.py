"""The report of a learning run: what the simulation did, when it asked, and whether it was right to trust itself."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..errors import RunFolderError
from ..learning.record import LOG, LOG_COLUMNS, WORDS
from ..learning.store import LabelStore
from .html import paragraph, section, table, write_page
from .plots import image, learning_figure, timeline_figure, timing_figure


def write_run_report(folder: Path, file: Path | None = None) -> Path:
    """Write report.html into a run folder (or to `file`); the path written.

    Raises
    ------
    RunFolderError
        If the folder holds no log of a run.
    """
    log = read_log(folder / LOG)
    rows = LabelStore(folder).rows()
    target = file or folder / "report.html"
    sections = [
        section("Summary", table(_summary(log, rows))),
        section("The simulation", image(timeline_figure(log))),
        section("What the labels taught", *_learning(rows)),
        section("Time", image(timing_figure(log))),
    ]
    write_page(target, f"mlpot: {folder.name}", sections)
    return target


def read_log(file: Path) -> dict[str, np.ndarray]:
    """Columns of log.csv, those of text as strings; nan where a cell is empty, an unfinished last line left out."""
    try:
        with open(file, newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if all(row.get(name) is not None for name in LOG_COLUMNS)]
    except FileNotFoundError as error:
        raise RunFolderError(f"{file.parent}: holds no {file.name}; name the folder of a learning run") from error
    if not rows:
        raise RunFolderError(f"{file}: holds no steps yet")
    return {
        name: np.array([row[name] if name in WORDS else float(row[name] or "nan") for row in rows])
        for name in LOG_COLUMNS
    }


def _summary(log: dict[str, np.ndarray], rows: list) -> list[tuple[str, object]]:
    labelled = log["labelled"] > 0
    n_steps, seconds = len(log["step"]), log["seconds"]
    paid = sum(row.key_value_pairs["label_seconds"] for row in rows)
    typical = float(np.median(seconds[~labelled])) if np.any(~labelled) else float("nan")
    per_label = paid / len(rows) if rows else float("nan")
    return [
        ("steps", n_steps - 1),
        (
            "labels",
            f"{len(rows)} ({labelled.sum()} steps labelled, {100 * (~labelled).mean():.2f} % the potential's own)",
        ),
        ("electronic structure", f"{paid:.1f} s in {len(rows)} labels of {per_label:.2f} s"),
        ("a predicted step", f"{1e3 * typical:.2f} ms"),
        (
            "wall time of all steps",
            f"{seconds.sum():.1f} s; every step by electronic structure: {per_label * n_steps:.0f} s",
        ),
        ("temperature", f"{log['temperature_K'][0]:.0f} K at the start, {log['temperature_K'][-1]:.0f} K at the end"),
    ]


def _learning(rows: list) -> list[str]:
    """Parity and errors of what was predicted before it was learned."""
    before = [row for row in rows if "predicted_forces" in row.data and "force_error" in row.key_value_pairs]
    if not before:
        return [paragraph("No label came after a prediction, so there is nothing to compare.")]
    figure = learning_figure(
        np.concatenate([np.ravel(row.data["predicted_forces"]) for row in before]),
        np.concatenate([np.ravel(row.forces) for row in before]),
        np.array([row.key_value_pairs["force_error"] for row in before]),
        np.array([row.key_value_pairs["expected_error"] for row in before]),
    )
    cells = [
        (
            row.id,
            f"{row.key_value_pairs['force_error']:.4f}",
            f"{1e3 * (row.data['predicted_energy'] - row.energy) / row.natoms:.2f}",
            f"{row.key_value_pairs['expected_error']:.4f}",
            f"{row.key_value_pairs['expected_error_after']:.4f}",
            f"{row.key_value_pairs['label_seconds']:.2f}",
        )
        for row in before
    ]
    heads = (
        "label",
        "RMS force error eV/A",
        "energy error meV/atom",
        "expected, worst atom eV/A",
        "after eV/A",
        "label s",
    )
    return [image(figure), table(cells, heads)]
