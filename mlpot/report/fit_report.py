"""The report of a fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ase.data import chemical_symbols

from ..models.report import Comparison, FitReport
from ..models.sparse_gp import SparseGP
from .html import paragraph, preformatted, section, table, write_page
from .plots import image, parity_figure
from .tables import ERROR_HEADS, SUSPICION_HEADS, TRIAL_HEADS, error_rows, suspicion_rows, trial_rows, uncertainty_line


def write_fit_report(model: SparseGP, test: Sequence[Comparison], file: Path) -> None:
    """What was fitted to what, the residuals, and parity plots on test structures where there are any."""
    sections = [section("Model", table(_model_rows(model)))]
    if model.report:
        sections += _findings(model.report)
    else:
        sections.append(paragraph("This model was not made by `mlpot fit`; it has no record of residuals."))
    if test:
        sections.append(section("Test structures", image(parity_figure(test))))
    if model.config:
        settings = json.dumps(model.config.model_dump(mode="json"), indent=1)
        sections.append(section("Settings", preformatted(settings)))
    write_page(file, "mlpot: fit", sections)


def _findings(report: FitReport) -> list[str]:
    """Residuals, errors on structures left out, labels to look at, hyper-parameters tried."""
    sections = [section("Residuals on the training data", table(error_rows(report.residuals.items()), ERROR_HEADS))]
    if report.left_out:
        rows = table(error_rows(report.left_out.items()), ERROR_HEADS)
        sections.append(section("Every structure by the fit to all others", rows))
    if report.suspicious:
        rows = table(suspicion_rows(report.suspicious), SUSPICION_HEADS)
        sections.append(section("Labels that the fit to all others does not confirm", rows))
    if report.trials:
        sections.append(section("Hyper-parameters", table(trial_rows(report.trials), TRIAL_HEADS)))
    return sections


def _scales(scales: tuple[float, ...]) -> str:
    return ", ".join(f"{scale:.3g}" for scale in scales)


def _model_rows(model: SparseGP) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("elements", ", ".join(chemical_symbols[z] for z in model.species)),
        ("cutoff", f"{model.cutoff} A"),
        ("sparse points per term", ", ".join(str(term.n_sparse) for term in model.terms)),
        ("energy scales of each term", "; ".join(_scales(term.energy_scales) for term in model.terms) + " eV"),
    ]
    r = model.report
    if r is None:
        return rows
    how = "fitted, as none were given" if r.isolated_atom_energies_fitted else "given, or of isolated atoms"
    energies = ", ".join(f"{chemical_symbols[z]} {e:.6f} eV" for z, e in r.isolated_atom_energies.items())
    return [
        *rows,
        ("isolated-atom energies", f"{energies} ({how})"),
        ("labels", f"{r.n_energies} energies, {r.n_force_components} force components, {r.n_virials} virials"),
        ("environments", r.n_atoms),
        ("condition number", f"{r.condition:.1e}"),
        ("uncertainty", uncertainty_line(model.calibration, r.coverage)),
        ("processor time", f"{r.cpu_seconds:.1f} s"),
    ]
