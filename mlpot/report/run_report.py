"""The report of a learning run: what the simulation did, when it asked, and whether it was right to trust itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from ..errors import counted
from ..models.sparse_gp import SparseGP
from ..units import HOUR
from .costs import Costs, costs_of
from .html import captioned, contents, grid, paragraph, section, table, write_page
from .learning_sections import calibration_section, label_section, learning_section
from .origin_plots import costs_figure
from .origin_sections import check_section, map_section, origin_section, radial_section
from .plots import image
from .ring_polymers import kinetic_section
from .run_data import Run, in_words, read_run
from .run_plots import timeline_figure
from .verdict_sections import expected_section, verdict_box
from .viewer import viewer_section

SPENT = 90.0
"""Minutes from which on times are told in hours."""


def write_run_report(folder: Path, file: Path | None = None, references: Sequence[Path] = ()) -> Path:
    """Write report.html into a run folder (or to `file`); the path written. The run may be going on.

    Parameters
    ----------
    folder : Path
        Of the run; nothing in it but the report is touched.
    file : Path or None
    references : sequence of Path
        Trajectories, such as of plain ab initio dynamics, whose radial distributions are compared with the run's.

    Raises
    ------
    RunFolderError
        If the folder holds no log of a run, or no steps yet.
    DataError, StructureError
        For a reference that cannot be read or has no periodic cell.
    """
    run, target = read_run(folder), file or folder / "report.html"
    costs = costs_of(run)
    parts: list[tuple[str, list[str]]] = [
        ("Summary", _summary(run, costs)),
        ("Timeline", _timeline(run)),
        ("Structures", viewer_section(run)),
        ("Learning curve", learning_section(run)),
        ("Calibration", calibration_section(run)),
        ("Energies and stress", expected_section(run)),
        ("Fresh labels", check_section(run)),
        ("Where the labels came from", origin_section(run)),
        ("Map of environments", map_section(run)),
        ("Radial distributions", radial_section(run, references)),
        ("Quantum kinetic energy", kinetic_section(run)),
        ("Costs", _costs(run, costs)),
        ("Labels", label_section(run)),
    ]
    shown = [(title, content) for title, content in parts if content]
    sections = [section(title, *content) for title, content in shown]
    write_page(target, f"mlpot: {folder.name}", [contents(title for title, _ in shown), *sections])
    return target


def _summary(run: Run, costs: Costs) -> list[str]:
    labelled = run.log["labelled"] > 0
    reasons = Counter(label.reason for label in run.labels)
    rows = [
        ("status", in_words(run)),
        ("steps", f"{costs.n_steps - len(run.walkers)} of {counted(len(run.walkers), 'walker')}; {_percent(~labelled)} predicted"),
        (
            "labels",
            f"{len(run.labels)}: " + ", ".join(f"{number} {reason}" for reason, number in reasons.most_common()),
        ),
        *_cheap_level(run),
        ("failed labels", len(run.failures)),
        ("level of theory", ", ".join(sorted({str(label.values["calculator_path"]) for label in run.labels}))),
        ("calibration", f"raw deviations of forces times {_final_scale(run)}"),
        ("model", "none yet" if run.model is None else _in_short(run.model)),
        ("core hours", _saved(costs)),
    ]
    content = [table(rows, name="summary"), table(_walker_rows(run), WALKER_HEADS, "walkers")]
    content = [*verdict_box(run), *content]
    if run.failures:
        heads = ("label", "formula", "why it failed")
        failed = [(f["key"][:12], f.get("structure", {}).get("symbols", "-"), f["failure"]) for f in run.failures]
        content += [paragraph("Labels that failed for good:"), table(failed, heads, "failures")]
    return content


def _cheap_level(run: Run) -> list[tuple[str, str]]:
    """Labels of the cheap level of a run with two."""
    if not run.cheap_labels:
        return []
    seconds = sum(label.values["label_seconds"] for label in run.cheap_labels)
    kinds = sorted({str(label.values["calculator_path"]) for label in run.cheap_labels})
    return [("labels of the cheap level", f"{len(run.cheap_labels)}, {_time(seconds)}: {', '.join(kinds)}")]


def _final_scale(run: Run) -> str:
    return "-" if run.model is None else run.model.calibration.described()


def _in_short(model: SparseGP) -> str:
    kinds = ", ".join(f"{term.label} ({term.n_sparse} sparse points)" for term in model.terms)
    beneath = "" if model.beneath is None else f", on {model.beneath.settings.calculator}"
    return f"{' '.join(chemical_symbols[z] for z in model.species)}: {kinds}{beneath}"


def _percent(mask: np.ndarray) -> str:
    return f"{100 * mask.mean():.2f} %"


def _saved(costs: Costs) -> str:
    if not costs.n_labels:
        return f"{costs.core_hours:.3g}; without labels there is no price to compare with"
    return f"{costs.core_hours:.3g}, {costs.factor:.3g} times less than plain ab initio dynamics"


WALKER_HEADS = ("walker", "atoms", "formula", "ensemble", "steps", "time ps", "labels", "T K, first to last")


def _walker_rows(run: Run) -> list[tuple]:
    rows = []
    for walker in run.walkers:
        log = {name: run.log[name][run.of(walker)] for name in ("step", "time_fs", "temperature_K")}
        temperatures, picoseconds = log["temperature_K"], log["time_fs"][-1] / 1000
        rows.append(
            (
                walker.name, "-" if walker.numbers is None else len(walker.numbers), walker.formula,
                walker.ensemble or "-", int(log["step"][-1]), "-" if np.isnan(picoseconds) else f"{picoseconds:.3f}",
                sum(label.walker == walker.name for label in run.labels),
                "-" if np.isnan(temperatures).all() else f"{temperatures[0]:.0f} to {temperatures[-1]:.0f}",
            )
        )  # fmt: skip
    return rows


def _timeline(run: Run) -> list[str]:
    figures = [
        captioned(image(timeline_figure(run, walker), f"timeline of {walker.name}"), f"Walker {walker.name}")
        for walker in run.walkers
    ]
    return [
        paragraph(
            "A label is asked for where the expected error of the least certain force reaches the threshold (uncertain; soft: "
            "a part of it, and the simulation goes on), where an environment is unlike all sparse points (novel), and now and "
            "then whatever the model says (check). Every stretch of a line shows its lowest and its highest value."
        ),
        figures[0] if len(figures) == 1 else grid(figures),
    ]


def _costs(run: Run, costs: Costs) -> list[str]:
    typical = run.log["seconds"][~(run.log["labelled"] > 0)]
    parts = (
        ("prediction (all steps that were not labelled)", costs.dynamics),
        ("refit", costs.refit),
        ("waiting for labels", costs.waiting),
        ("rest (start, files, labels computed in the background)", costs.rest),
        ("all", costs.wall),
    )
    rows = [(name, f"{value:.2f}", f"{100 * value / max(costs.wall, 1e-300):.1f}") for name, value in parts]
    step = f"{1e3 * float(np.median(typical)):.3g} ms" if len(typical) else "-"
    saved = [
        ("a predicted step", step),
        ("core hours spent", f"{costs.core_hours:.4g} ({costs.cpu / HOUR:.3g} of them not for labels)"),
    ]
    if costs.n_labels:
        saved += _prices(costs)
    return [
        captioned(image(costs_figure(costs, run.labels), "costs")),
        table(rows, ("wall time", "s", "%"), "wall"),
        table(saved, name="savings"),
    ]


def _prices(costs: Costs) -> list[tuple[str, str]]:
    """Against dynamics that pays for every step what a label costs."""
    return [
        ("a label", f"{costs.per_label:.3g} s on {counted(costs.cores_per_label, 'core')}"),
        ("all labels", f"{costs.n_labels}, {_time(costs.labels)}"),
        ("core hours of plain ab initio dynamics",
         f"{costs.plain_core_hours:.4g} for {costs.n_structures} structures at the price of a label"),
        ("core hours saved", f"{costs.plain_core_hours - costs.core_hours:.4g}"),
        ("times less", f"{costs.factor:.3g}"),
    ]  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds / HOUR:.3g} h" if seconds > 60 * SPENT else f"{seconds:.3g} s"
