"""Commands for models and labelled data: `mlpot fit` and `mlpot evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import ase.data
import typer

from ..errors import ConfigError, DataError, counted
from .console import TrustBaseline, bars, check_plot, check_predictions, check_target, console, progress, table
from .data import EnergyKey, ForcesKey, StressKey, VirialKey, say_data

if TYPE_CHECKING:
    from ase import Atoms

    from ..models.evaluate import Evaluation
    from ..models.report import FitReport
    from ..models.sparse_gp import SparseGP
    from ..models.tensors import TargetErrors, TargetModels
    from ..settings.files import FitFile
    from ..settings.fit import FitConfig
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
    from ..data.reading import read_sources
    from ..fitting.batch import fit as fit_model
    from ..fitting.quality import judgement
    from ..models.evaluate import evaluate as evaluate_model
    from ..processes import worker_pool
    from ..settings.files import FitFile
    from ..structures import all_labelled, has_labels

    settings = read_config(config, FitFile)
    output = Path(settings.output.model)
    _check_outputs(config, settings, [])
    fit_config = settings.fit_config()
    used = frozenset(target.label_key for target in settings.targets)
    data = read_sources([replace(source, used=used) for source in settings.data.sources()])
    say_data("Training data", data)
    test_frames = _test_frames(settings, data.frames)
    _check_outputs(config, settings, [*data.frames, *test_frames])
    test = all_labelled(filter(has_labels, test_frames), "test") if any(map(has_labels, test_frames)) else None
    if fit_config.targets and not any(map(has_labels, data.frames)):
        _fit_targets_only(data.frames, test_frames, fit_config, output)
        return
    with worker_pool(workers) as pool, bars() as shown:
        model = fit_model(data.frames, fit_config, progress(shown), pool)
    model.save(output)
    evaluation = evaluate_model(model, test) if test else None
    report = cast("FitReport", model.report)  # every fit makes one
    _say_how_it_went(report, model.calibration, evaluation)
    for line in judgement(report, fit_config, evaluation.overall if evaluation else None):
        console.print(line, markup=False)
    _say_targets(model.targets, test_frames)
    if settings.output.report:
        from ..report.fit_report import write_fit_report

        write_fit_report(model, evaluation, Path(settings.output.report), fit_config)
        console.print(f"report: {settings.output.report}")
    if model.beneath is not None:
        console.print(f"beneath the fit: {model.beneath.cost}", markup=False)
    console.print(f"model: {output}")


def _check_outputs(config: Path, settings: FitFile, frames: Sequence[Atoms]) -> None:
    """ConfigError for an output that cannot be written, or that is the configuration or a file that the structures are from."""
    from ..structures import name_of

    read = {name_of(atoms, "").rpartition("[")[0] for atoms in frames} - {""}
    for key, file in (("model", settings.output.model), ("report", settings.output.report)):
        check_target(f"{config}: output.{key} =", None if file is None else Path(file), config, *map(Path, sorted(read)))


def _test_frames(settings: FitFile, train: Sequence[Atoms]) -> list[Atoms]:
    """The test set, if there is one; says which of its structures are among the training data."""
    from ..data.reading import DataSource, read_sources
    from ..fitting.data_check import copies
    from ..structures import all_labelled, has_labels

    if not settings.data.test:
        return []
    used = frozenset(target.label_key for target in settings.targets)
    data = read_sources([DataSource(settings.data.test, settings.data.keys(), used=used)])
    say_data("Test data", data)
    if not settings.targets:
        all_labelled(data.frames, "test")  # raises for structures without labels
    both = [[atoms for atoms in frames if has_labels(atoms)] for frames in (data.frames, train)]
    if all(both) and (said := copies(all_labelled(both[0], "test"), all_labelled(both[1]))):
        console.print(f"{said}: errors on the test set are optimistic", markup=False)
    return data.frames


def _fit_targets_only(frames: Sequence[Atoms], test: Sequence[Atoms], config: FitConfig, output: Path) -> None:
    """Fit targets to structures without energies, forces and stresses."""
    from ..fitting.tensors import fit_targets
    from ..models.saving import save_targets

    with bars() as shown:
        models = fit_targets(frames, config, config.seed, progress(shown))
    save_targets(models, output)
    console.print("no structure has an energy, forces or a stress: the model predicts its targets only")
    _say_targets(models, test)
    console.print(f"model: {output}")


def _say_targets(models: TargetModels, test: Sequence[Atoms]) -> None:
    """Table of the errors of targets, and remarks of their fits."""
    from ..models.target_errors import evaluate_targets
    from ..report.tables import TARGET_HEADS, fitted_target_rows

    if not models:
        return
    console.print(table("Targets", TARGET_HEADS, fitted_target_rows(models, evaluate_targets(models, test) if test else None)))
    for name, model in models.items():
        for note in model.notes:
            console.print(f"{name}: {note}", markup=False)


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
        f"{counted(report.n_structures, 'structure')}, {counted(report.n_atoms, 'environment')}, "
        f"sparse points per term {report.n_sparse}, "
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


def _say_target_errors(models: TargetModels, frames: Sequence[Atoms], title: str) -> dict[str, TargetErrors]:
    """Errors of the targets that have labels, with a table of them."""
    from ..models.target_errors import evaluate_targets
    from ..report.tables import TARGET_HEADS, target_rows

    errors = evaluate_targets(models, frames)
    if errors:
        rows = target_rows((name, "test", models[name].target.unit, e) for name, e in errors.items())
        console.print(table(title, TARGET_HEADS, rows))
    return errors


def _say_errors(evaluation: Evaluation, potential: SparseGP, title: str) -> None:
    """Table of errors per config_type, and the calibration."""
    from ..report.tables import ERROR_HEADS, error_rows

    rows = [*evaluation.per_config_type.items(), ("all", evaluation.overall)]
    console.print(table(title, ERROR_HEADS, error_rows(rows)))
    if potential.beneath is not None:
        console.print(f"beneath the model: {potential.beneath.cost}", markup=False)
    for name, value in evaluation.calibration.items():
        console.print(f"{name}: {'-' if value is None else f'{value:.3g}'}")


def _check_only_targets(errors: Mapping, plot: Path | None, output: Path | None, structures: Path) -> None:
    """Errors for structures without any label of the model, and for files that need energies."""
    if not errors:
        raise DataError(f"{structures}: no structure has a label that this model predicts")
    for name, file in (("--plot", plot), ("--output", output)):
        if file is not None:
            raise ConfigError(f"{name} {file}: needs structures with energies, forces or stresses, and a potential; leave it out")


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
    from ..data.reading import DataSource, read_sources
    from ..durable import write_text
    from ..models.evaluate import evaluate as evaluate_model
    from ..models.files import load_any
    from ..models.tensors import TargetModels
    from ..structures import all_labelled, has_labels

    check_target("--json", json_file, model, structures)
    check_plot("--plot", plot)
    check_predictions("--output", output, structures)
    potential = load_any(model, trust_baseline)
    models = potential if isinstance(potential, TargetModels) else potential.targets
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key)
    data = read_sources([DataSource(structures, keys, used=frozenset(model.key for model in models.values()))])
    say_data("Data", data)
    errors = _say_target_errors(models, data.frames, str(structures))
    found: dict = {"targets": {name: asdict(e) for name, e in errors.items()}} if models else {}
    frames = [atoms for atoms in data.frames if has_labels(atoms)] if errors else data.frames
    if isinstance(potential, TargetModels) or not frames:
        _check_only_targets(errors, plot, output, structures)
        evaluation = None
    else:
        evaluation = evaluate_model(potential, all_labelled(frames, str(structures)))
        found |= evaluation.to_dict()
        _say_errors(evaluation, potential, str(structures))
    if json_file:
        write_text(json_file, json.dumps(found, indent=1))
    if plot and evaluation:
        from ..report.plots import parity_figure, save

        save(parity_figure(evaluation.comparisons), plot)
    if output and evaluation:
        from ..report.predictions import write_predictions

        write_predictions(output, evaluation.comparisons)
        console.print(f"predictions: {output}", markup=False)
