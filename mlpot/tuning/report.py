"""The report of a search: one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.html import captioned, contents, paragraph, preformatted, section, table, write_page
from ..report.plots import image
from .plots import convergence_figure, coordinates_figure, front_figure, importance_figure, importances, known
from .result import HEADS, TuneResult

MOST_ROWS = 300
COORDINATES = "Every line is a trial, the darker the smaller its error; the best one is red."
FRONT = "Small points are trials, with errors on left-out groups of the training data; models of the front were fitted and tested."
IMPORTANCE = "Part of the spread of the errors that each setting explains by itself, in the region that was searched."


def write_tune_report(result: TuneResult, file: Path, files: Sequence[str] = ()) -> None:
    """Write the report of a search; an existing file is replaced.

    Parameters
    ----------
    files : sequence of str
        Names of the configurations on the front.
    """
    tested = table(result.rows(), HEADS, "front")
    parts = {
        "Result": "".join(map(paragraph, result.summary())) + tested,
        "Front": captioned(image(front_figure(result.trials, result.pareto, result.default), "errors against cost"), FRONT),
    }
    if known(result.trials):
        shares = importances(result.trials, result.space)
        parts |= {
            "Convergence": captioned(image(convergence_figure(result.trials), "errors of the trials")),
            "Settings": captioned(image(coordinates_figure(result.trials, result.space), "parallel coordinates"), COORDINATES),
            "Importance": captioned(image(importance_figure(shares), "importance of each setting"), IMPORTANCE)
            + table([(name, f"{100 * share:.0f} %") for name, share in shares], ("setting", "explained"), "importance"),
        }
    searched = [(str(p.path), p.text()) for p in result.space.parameters]
    parts["What was searched"] = table(searched, ("setting", "range or choices"), "space") + _files(files)
    parts["Trials"] = table([_row(row) for row in result.table[:MOST_ROWS]], ("trial", "step", "settings", "forces", "energies",
                            "us/atom", "CPU s", "failure"), "trials")  # fmt: skip
    write_page(file, "mlpot: tune", [contents(parts), *(section(title, html) for title, html in parts.items())])


def _files(files: Sequence[str]) -> str:
    return preformatted("\n".join(files)) if files else ""


def _row(row: dict) -> list[str]:
    """A trial as text: errors in eV/A and eV/atom."""
    named = ("number", "step", "forces", "energies", "cost", "seconds", "failure")
    own = ", ".join(f"{key} = {value}" for key, value in row.items() if key not in named)
    numbers = ["-" if row[key] is None else f"{row[key]:.3g}" for key in ("forces", "energies", "cost", "seconds")]
    return [str(row["number"]), row["step"], own, *numbers, row["failure"] or ""]
