"""The report of a fit."""

from __future__ import annotations

import json
from pathlib import Path

from ase.data import chemical_symbols

from ..errors import counted
from ..fitting.quality import judgement
from ..models.evaluate import Evaluation
from ..models.report import FitReport
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitConfig
from .html import captioned, paragraph, preformatted, section, table, write_page
from .plots import image, parity_figure
from .tables import ERROR_HEADS, SUSPICION_HEADS, TRIAL_HEADS, error_rows, suspicion_rows, trial_rows, uncertainty_line

PARITY = (
    "Predicted against labelled; every config_type has a colour where there are several. Below: errors of forces and energies "
    "against the standard deviations predicted for them, and the part of them within any number of these."
)
NO_TEST = (
    "None are known here: `mlpot fit` with [data] test and [output] report shows them in its report; a model file does not keep "
    "them. Errors on structures left out of the fit are the next best thing."
)


def write_fit_report(model: SparseGP, test: Evaluation | None, file: Path, config: FitConfig | None = None) -> None:
    """Settings and data of the fit, its quality, residuals, and errors and parity plots of test structures, if there are any.

    Parameters
    ----------
    model : SparseGP
    test : Evaluation or None
        On structures of a test set.
    file : Path
        HTML; replaced.
    config : FitConfig
        As it was given; what the model remembers of it by default.
    """
    config = config or model.config
    sections = [section("Model", table(_model_rows(model)))]
    if model.report and config:
        judged = judgement(model.report, config, test.overall if test else None)
        sections.append(section("How good it is", *map(paragraph, judged or ["The file is of an earlier version."])))
    if model.report:
        sections += _findings(model.report)
    else:
        sections.append(paragraph("This model was not made by `mlpot fit`; it has no record of residuals."))
    if test:
        rows = [*test.per_config_type.items(), ("all", test.overall)]
        picture = captioned(image(parity_figure(test.comparisons), "parity plots"), PARITY)
        sections.append(section("Test structures", table(error_rows(rows), ERROR_HEADS, "test-errors"), picture))
    else:
        sections.append(section("Test structures", paragraph(NO_TEST)))
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
    counts = {"energy": r.n_energies, "force component": r.n_force_components, "virial": r.n_virials}
    energies = ", ".join(f"{chemical_symbols[z]} {e:.6f} eV" for z, e in r.isolated_atom_energies.items())
    return [
        *rows,
        ("isolated-atom energies", f"{energies} ({how})"),
        ("labels", ", ".join(counted(n, noun) for noun, n in counts.items())),
        ("environments", r.n_atoms),
        ("condition number", f"{r.condition:.1e}"),
        ("uncertainty", uncertainty_line(model.calibration, r.coverage)),
        ("processor time", f"{r.cpu_seconds:.1f} s"),
    ]
