"""Commands for models and labelled data: `mlpot fit` and `mlpot evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import ase.data
import typer

from .console import TrustBaseline, bars, check_plot, check_predictions, check_target, console, progress, table
from .data import EnergyKey, ForcesKey, StressKey, VirialKey, say_data

if TYPE_CHECKING:
    from ..models.evaluate import Evaluation
    from ..models.report import FitReport
    from ..uncertainty.calibration import Calibration

MOST_SUSPICIONS = 20


def fit(
    config: Annotated[Path, typer.Argument(help="A TOML file with [data], [model], [fit] and [output].")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that compute the design matrix; by default threads of this process.")
    ] = None,
) -> None:
    """Fit a model to labelled structures."""
    from ..config import read_config
    from ..data.reading import read_labelled, read_sources
    from ..fitting.batch import fit as fit_model
    from ..fitting.data_check import copies
    from ..fitting.quality import judgement
    from ..models.evaluate import evaluate as evaluate_model
    from ..processes import worker_pool
    from ..settings.files import FitFile
    from ..structures import all_labelled

    settings = read_config(config, FitFile)
    output = Path(settings.output.model)
    for key, file in (("model", output), ("report", settings.output.report)):
        check_target(f"{config}: output.{key} =", None if file is None else Path(file))
    fit_config = settings.fit_config()
    data = read_sources(settings.data.sources())
    say_data("Training data", data)
    test = None
    if settings.data.test:
        test_data = read_labelled(settings.data.test, settings.data.keys())
        say_data("Test data", test_data)
        test = all_labelled(test_data.frames, "test")
        if said := copies(test, all_labelled(data.frames)):
            console.print(f"{said}: errors on the test set are optimistic", markup=False)
    with worker_pool(workers) as pool, bars() as shown:
        model = fit_model(data.frames, fit_config, progress(shown), pool)
    model.save(output)
    evaluation = evaluate_model(model, test) if test else None
    report = cast("FitReport", model.report)  # every fit makes one
    _say_how_it_went(report, model.calibration, evaluation)
    for line in judgement(report, fit_config, evaluation.overall if evaluation else None):
        console.print(line, markup=False)
    if settings.output.report:
        from ..report.fit_report import write_fit_report

        write_fit_report(model, evaluation, Path(settings.output.report), fit_config)
        console.print(f"report: {settings.output.report}")
    if model.beneath is not None:
        console.print(f"beneath the fit: {model.beneath.cost}", markup=False)
    console.print(f"model: {output}")


def _say_how_it_went(report: FitReport, calibration: Calibration, evaluation: Evaluation | None) -> None:
    """Closing table of a fit, its hyper-parameters, and suspicious labels."""
    from ..report.tables import (
        ERROR_HEADS,
        SUSPICION_HEADS,
        TRIAL_HEADS,
        error_rows,
        suspicion_rows,
        trial_rows,
        uncertainty_line,
    )

    rows = [("train: " + name, errors) for name, errors in report.residuals.items()]
    rows += [("left out: " + name, errors) for name, errors in report.left_out.items()]
    if evaluation:
        rows += [("test: " + name, errors) for name, errors in evaluation.per_config_type.items()]
        rows.append(("test: all", evaluation.overall))
    console.print(table("Errors per config_type", ERROR_HEADS, error_rows(rows)))
    if report.trials:
        console.print(table("Hyper-parameters, the chosen ones first", TRIAL_HEADS, trial_rows(report.trials)))
    how = "fitted, as none were given" if report.isolated_atom_energies_fitted else "given or from isolated atoms"
    energies = {ase.data.chemical_symbols[z]: round(e, 6) for z, e in report.isolated_atom_energies.items()}
    console.print(f"isolated-atom energies ({how}): {energies} eV")
    console.print(
        f"{report.n_structures} structures, {report.n_atoms} environments, sparse points per term {report.n_sparse}, "
        f"energy scales {[[round(e, 3) for e in scales] for scales in report.energy_scales]} eV, "
        f"condition number {report.condition:.1e}, noises {report.noises['energy']:.2g} eV/atom, "
        f"{ {ase.data.chemical_symbols[z]: round(e, 4) for z, e in report.force_noises.items()} } eV/A, "
        f"{report.noises['virial']:.2g} eV/atom (virials), "
        f"{report.cpu_seconds:.1f} CPU s in this process"
    )
    console.print(uncertainty_line(calibration, report.coverage))
    if report.suspicious:
        title = f"{len(report.suspicious)} suspicious labels: the fit to all other structures does not confirm them"
        console.print(table(title, SUSPICION_HEADS, suspicion_rows(report.suspicious[:MOST_SUSPICIONS])))
    if len(report.suspicious) > MOST_SUSPICIONS:
        console.print(f"the worst {MOST_SUSPICIONS} are shown; `model.report.suspicious` has all of them")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    structures: Annotated[Path, typer.Argument(help="Labelled structures in any format that ASE reads.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the errors to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a parity plot into this file.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Write structures, labels, predictions and uncertainties to this extended-XYZ file."
        ),
    ] = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
    trust_baseline: TrustBaseline = False,
) -> None:
    """Errors of a model on labelled structures, and the calibration of its uncertainty."""
    from ..data.label_keys import LabelKeys
    from ..data.reading import read_labelled
    from ..durable import write_text
    from ..models.evaluate import evaluate as evaluate_model
    from ..models.files import load_model
    from ..report.tables import ERROR_HEADS, error_rows
    from ..structures import all_labelled

    check_target("--json", json_file)
    check_plot("--plot", plot)
    check_predictions("--output", output, structures)
    potential = load_model(model, trust_baseline)
    data = read_labelled(structures, LabelKeys(energy_key, forces_key, stress_key, virial_key))
    say_data("Data", data)
    evaluation = evaluate_model(potential, all_labelled(data.frames, str(structures)))
    rows = [*evaluation.per_config_type.items(), ("all", evaluation.overall)]
    console.print(table(str(structures), ERROR_HEADS, error_rows(rows)))
    if potential.beneath is not None:
        console.print(f"beneath the model: {potential.beneath.cost}", markup=False)
    for name, value in evaluation.calibration.items():
        console.print(f"{name}: {'-' if value is None else f'{value:.3g}'}")
    if json_file:
        write_text(json_file, json.dumps(evaluation.to_dict(), indent=1))
    if plot:
        from ..report.plots import parity_figure, save

        save(parity_figure(evaluation.comparisons), plot)
    if output:
        from ..report.predictions import write_predictions

        write_predictions(output, evaluation.comparisons)
        console.print(f"predictions: {output}", markup=False)
