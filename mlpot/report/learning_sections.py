"""Sections of the report of a run on what labels showed: errors before they were learned, calibration, the table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..uncertainty.calibration import SYMMETRIC, coverage, expected_normalised_error
from .html import captioned, paragraph, table
from .plots import image
from .run_data import Run, RunLabel
from .run_plots import calibration_figure, learning_figure

MOST_LABELS = 200
"""Rows of the table of labels."""
NOTHING = "No label came after a prediction yet, so there is nothing to compare."


def learning_section(run: Run) -> list[str]:
    """The error of every label before it was learned."""
    told = run.predicted
    if not told:
        return [paragraph(NOTHING)]
    groups = [(name, some) for name, some in _groups(told) if some]
    rows = [
        (
            name, len(some), f"{_rms([label.values['force_error'] for label in some]):.4f}",
            f"{_rms([label.expected_rms for label in some]):.4f}",
            f"{_rms([label.energy_error for label in some]):.2f}",
        )
        for name, some in groups
    ]  # fmt: skip
    heads = ("labels", "number", "RMS force error eV/Å", "expected eV/Å", "RMS energy error meV/atom")
    return [
        captioned(
            image(learning_figure(run.labels), "learning curve"),
            "Errors of forces that were predicted before their label was learned. Check labels are taken at fixed intervals: "
            "they show the error of the simulation as it runs. All others are taken where the model is least certain.",
        ),
        table(rows, heads, "errors"),
    ]


def _groups(labels: Sequence[RunLabel]) -> list[tuple[str, list[RunLabel]]]:
    """All, check labels, and the last half of either: errors fall while a run learns."""
    checks = [label for label in labels if label.reason == "check"]
    return [
        ("all", list(labels)),
        ("all, second half", list(labels[len(labels) // 2 :])),
        ("check", checks),
        ("check, second half", checks[len(checks) // 2 :]),
    ]


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def errors_and_deviations(labels: Sequence[RunLabel]) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n,) of force components and their deviations (n,), eV/A, of labels that kept them; none that symmetry makes zero."""
    kept = [(label.errors, label.forces_std) for label in labels if label.was_predicted and label.forces_std is not None]
    errors = np.concatenate([np.empty(0), *(np.ravel(of_forces) for of_forces, _ in kept)])
    deviations = np.concatenate([np.empty(0), *(np.ravel(forces_std) for _, forces_std in kept)])
    told = deviations > SYMMETRIC
    return errors[told], deviations[told]


def calibration_section(run: Run) -> list[str]:
    """Expected errors compared with observed errors."""
    told = run.predicted
    if not told:
        return [paragraph(NOTHING)]
    errors, deviations = errors_and_deviations(told)
    content = [
        captioned(
            image(calibration_figure(told, errors / deviations), "calibration"),
            "All of it is before the label in question was learned. The scale turns raw deviations into errors as they occur; "
            "the last labels count most.",
        )
    ]
    rows = [
        (name, len(found), *(f"{value:.3f}" for value in _measures(found, std)))
        for name, some in _groups(told)
        for found, std in [errors_and_deviations(some)]
        if len(found)
    ]
    if not rows:
        return [*content, paragraph("Deviations of single force components were not kept by this run.")]
    heads = ("labels", "components", "within 1 σ", "within 2 σ", "RMS of error/σ", "expected normalised error")
    rows.append(("normal distribution", "", "0.683", "0.954", "1.000", "0.000"))
    return [*content, table(rows, heads, "coverage")]


def _measures(errors: np.ndarray, deviations: np.ndarray) -> tuple[float, float, float, float]:
    return (
        coverage(errors, deviations, 1), coverage(errors, deviations, 2), _rms(errors / deviations),
        expected_normalised_error(errors, deviations),
    )  # fmt: skip


LABEL_HEADS = (
    "label", "walker", "step", "reason", "RMS force error eV/Å", "expected eV/Å", "expected, as targets count eV/Å",
    "after eV/Å", "energy error meV/atom", "label s", "refit s", "key",
)  # fmt: skip


def label_section(run: Run) -> list[str]:
    """The table of labels, the last ones of many."""
    rows = [_label_row(k, label) for k, label in enumerate(run.labels, start=1)]
    content = [table(rows[-MOST_LABELS:], LABEL_HEADS, "labels")]
    if len(rows) > MOST_LABELS:
        content.insert(0, paragraph(f"The last {MOST_LABELS} of {len(rows)} labels; all are in labels.db."))
    return content


def _label_row(k: int, label: RunLabel) -> tuple:
    v = label.values
    before = ["-"] * 5
    if label.was_predicted:
        before = [
            f"{v['force_error']:.4f}", f"{label.expected_rms:.4f}", f"{v['expected_error']:.4f}",
            f"{v['expected_error_after']:.4f}", f"{label.energy_error:.2f}",
        ]  # fmt: skip
    refit = f"{v['refit_seconds']:.2f}" if "refit_seconds" in v else "-"
    return (
        k, label.walker, v.get("walker_step", "-"), label.reason, *before, f"{v['label_seconds']:.2f}", refit,
        str(v["label_key"])[:8],
    )  # fmt: skip
