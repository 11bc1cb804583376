"""The command line: its commands, and how errors reach users."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Literal

import ase.data
import typer
from rich.table import Table

from ..errors import ConfigError, ExplodedError, MlpotError, StructureError, counted, system_trouble
from .analysis import criteria, features, map_data
from .console import Commands, TrustBaseline, check_target, console, problems
from .distil import distil
from .driver import driver, ipi_pes
from .fit import evaluate, fit
from .lammps import build, export_lammps, sources
from .spectrum import spectrum
from .study import compare, learning_curve
from .template import template
from .tune import tune
from .watch import watch, watched

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Sparse-kernel interatomic potentials that learn while the simulation runs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of `mlpot`."""
    app()


def reports_errors(command: Callable) -> Callable:
    """A command whose expected errors are one line and a non-zero exit code: 2 for configurations, 1 for all others."""

    @wraps(command)
    def guarded(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except MlpotError as error:
            problems.print(f"mlpot: {error}", style="red", markup=False)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from error
        except (OSError, MemoryError) as error:
            problems.print(f"mlpot: {system_trouble(error)}", style="red", markup=False)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            problems.print("mlpot: interrupted", style="red")
            raise typer.Exit(130) from error

    return guarded


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from .. import __version__

        console.print(__version__)
        raise typer.Exit


app.command(epilog="Example:  mlpot fit inputs/fit_si.toml --workers 2")(reports_errors(fit))
app.command(
    epilog="Example:  mlpot evaluate si.h5 ../shared/data/Si_test.xyz --json errors.json --plot parity.png"
)(reports_errors(evaluate))
app.command("learning-curve", epilog="Example:  mlpot learning-curve fit.toml --json curve.json --plot curve.png")(
    reports_errors(learning_curve)
)
app.command(epilog="Example:  mlpot compare data.xyz --json presets.json")(reports_errors(compare))
app.command(epilog="Example:  mlpot tune data.toml -o tuned.toml --budget 30min --workers 4")(reports_errors(tune))
app.command(epilog="Example:  mlpot features data.xyz --terms terms.toml -o features.h5")(reports_errors(features))
app.command(epilog="Example:  mlpot criteria --terms terms.toml data.xyz --html criteria.html")(reports_errors(criteria))
app.command(epilog="Example:  mlpot spectrum runs/water --plot ir.png --json ir.json")(reports_errors(spectrum))
app.command("map", epilog="Example:  mlpot map data.xyz --model si.h5 -o map.html")(reports_errors(map_data))


@app.command(epilog="Example:  mlpot check si.h5 structures.xyz")
@reports_errors
def check(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    structures: Annotated[Path | None, typer.Argument(help="Structures to check it on; small ones are fast.")] = None,
    trust_baseline: TrustBaseline = False,
) -> None:
    """Check derivatives, invariances and smoothness of a model."""
    from ..checks import DEGENERATE, default_structure, resolved_degeneracy, validate_model
    from ..models.files import load_model
    from ..structures import read_structures

    potential = load_model(model, trust_baseline)
    frames = read_structures(structures) if structures else [default_structure(potential)]
    failed = 0
    for k, atoms in enumerate(frames):
        table = Table("check", "found", "allowed", "unit", "", title=f"{atoms.get_chemical_formula()} ({k})")
        for result in validate_model(potential, atoms):
            failed += not result.passed
            verdict = "[green]ok" if result.passed else "[red]FAILED"
            table.add_row(result.name, f"{result.value:.1e}", f"{result.tolerance:.1e}", result.unit, verdict)
        console.print(table)
    distance = resolved_degeneracy(potential)
    if distance < DEGENERATE:
        console.print(
            "environments with equal distances and angles: [yellow]not distinguished[/]; set order = 3 in a soap term"
        )
    else:
        console.print(f"environments with equal distances and angles: distinguished, features differ by {distance:.1e}")
    if failed:
        raise MlpotError(f"{model}: {failed} checks failed")


@app.command(epilog="Example:  mlpot learn inputs/learn_si.toml --resume")
@reports_errors
def learn(
    config: Annotated[
        Path, typer.Argument(help="A TOML file with [structure], [dynamics], [labeller], [learning], ...")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder of [output].")] = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Serve the report to a browser while the run goes on.")] = False,
) -> None:
    """A simulation that learns while it runs."""
    from ..config import learning_run, read_config
    from ..learning.deadline import GO_ON
    from ..learning.log_format import RUN_LOG
    from ..learning.run_environment import keep_origin
    from ..report.live import LiveView
    from ..report.run_report import write_run_report
    from ..settings.files import LearnFile

    settings = read_config(config, LearnFile)
    folder = Path(settings.output.folder)
    with learning_run(settings, resume) as run, LiveView(console, run.campaign.folder / RUN_LOG) as view:
        logging.getLogger("mlpot").addHandler(view.handler)
        keep_origin(folder, config.read_text(encoding="utf-8"), settings.labelling.calculator)
        run.observer = view.show
        started = time.perf_counter()
        status, exploded = "exploded", None
        try:
            with run.deadline.listening(), watched(folder, watch_it):
                status = run.run()
        except ExplodedError as error:
            exploded = error
        learner, verdict = run.campaign.learner, run.verdict
        labels, beneath = run.campaign.labels_in_words, learner.fit.beneath if learner else None
        trajectories = [folder / run.trajectory(walker) for walker in run.walkers]
    if status == "deadline":
        console.print(f"stopped at the deadline with {labels}; --resume goes on (exit code {GO_ON})")
        raise typer.Exit(GO_ON)
    if status == "budget" and (learner is None or not learner.fit.structures):
        raise ConfigError("a budget of [learning] allows not even the first label; raise it, or name data in data.train")
    report = write_run_report(folder)
    if status == "budget":
        console.print(
            f"ended early: a budget of \\[learning] is spent, see {folder / 'run.log'}; raise it and use --resume"
        )
    console.print(f"{status}: {labels}, {time.perf_counter() - started:.0f} s")
    if beneath is not None:
        console.print(f"beneath the model: {beneath.cost}", markup=False)
    if exploded is None and verdict is not None:
        console.print(verdict.text, style="green" if verdict.is_converged else "red", markup=False)
    for name, file in (("report", report), ("model", folder / "model.h5"), *(("trajectory", t) for t in trajectories)):
        console.print(f"{name + ':':12s}{file}")
    if exploded is not None:
        raise exploded


app.command(epilog="Example:  mlpot distil water.xyz --calculator tblite.ase.TBLite --parameters '{\"verbosity\": 0}' -o water.h5")(
    reports_errors(distil)
)


@app.command("import-gap", epilog="Example:  mlpot import-gap gp_iter6_sparse9k.xml -o si.h5")
@reports_errors
def import_gap(
    gap: Annotated[Path, typer.Argument(help="The XML file of a GAP potential; its sparseX files must be in the same folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file to write.")],
) -> None:
    """Turn a published GAP potential (QUIP's XML) into a model file."""
    from ..interop.gap_xml import read_gap

    check_target("--output", output, gap)
    model = read_gap(gap)
    model.save(output)
    names = [ase.data.chemical_symbols[z] for z in model.species]
    kinds = [f"{term.label} ({term.n_sparse} sparse points)" for term in model.terms]
    if model.baseline.glue is not None:
        kinds.append("tabulated baseline")
    console.print(f"{', '.join(names)}: {', '.join(kinds)}; reaches {model.cutoff} A")
    console.print(f"model: {output}")


@app.command("import-snap", epilog="Example:  mlpot import-snap Ta06A.snapcoeff Ta06A.snapparam -o ta.h5")
@reports_errors
def import_snap(
    coefficients: Annotated[Path, typer.Argument(help="NAME.snapcoeff of a SNAP potential of LAMMPS.")],
    parameters: Annotated[Path, typer.Argument(help="NAME.snapparam of the same potential.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file to write.")],
    structures: Annotated[
        list[Path] | None,
        typer.Option(help="Structures that the potential was made for: the model states the novelty of others; repeatable."),
    ] = None,
) -> None:
    """Turn a published SNAP potential (LAMMPS, pair_style snap) into a model file."""
    from ..data.reading import read
    from ..interop.snap import read_snap

    files = structures or []
    check_target("--output", output, coefficients, parameters, *files)
    frames = [atoms for file in files for atoms in read(file)]
    if files and not frames:
        raise StructureError(f"--structures {', '.join(map(str, files))}: contain no structures")
    model = read_snap(coefficients, parameters, frames)
    model.save(output)
    names = ", ".join(ase.data.chemical_symbols[z] for z in model.species)
    linear, *references = model.terms
    console.print(f"{names}: {linear.label} ({linear.n_sparse} coefficients); reaches {model.cutoff:.6g} A")
    if references:
        known = f"{references[0].n_sparse} environments of {len(frames)} structures stand for what it knows"
        console.print(f"states novelty: {known}; no standard deviations, since the errors of its labels are not known")
    else:
        console.print(
            "no uncertainty, since the training data are not known; with --structures it states the novelty of environments"
        )
    console.print("Repulsion or other pair styles that the LAMMPS input adds with hybrid/overlay are not part of these files.")
    console.print(f"model: {output}")


@app.command(epilog="Example:  mlpot report runs/learn_si --reference direct.xyz")
@reports_errors
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a learning run, going on or ended, or a model file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The HTML file.")] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Trajectory to compare radial distributions with, such as direct ab initio dynamics; repeatable."
        ),
    ] = None,
) -> None:
    """Write the single-file HTML report of a learning run or of a fit."""
    from ..models.files import inspect_model
    from ..report.fit_report import write_fit_report
    from ..report.run_report import write_run_report

    check_target("--output", output, run, *(reference or []))
    if run.is_dir():
        console.print(str(write_run_report(run, output, reference or [])))
    else:
        target = output or run.with_suffix(".html")
        write_fit_report(inspect_model(run), None, target)
        console.print(str(target))


app.command(epilog="Example:  mlpot watch runs/learn_si --port 8000")(reports_errors(watch))


@app.command(epilog="Example:  mlpot export runs/learn_si -o si_export")
@reports_errors
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a learning run, going on or ended.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A new or empty folder; with --format xyz a new file.")
    ],
    kind: Annotated[
        Literal["folder", "xyz"], typer.Option("--format", help="Everything of the run, or its labels alone.")
    ] = "folder",
) -> None:
    """Write labels as extended XYZ, the model, and everything needed to make it again."""
    from ..report.export import export_run, export_xyz

    if kind == "xyz":
        check_target("--output", output)
    exported = (export_run if kind == "folder" else export_xyz)(run, output)
    console.print(f"{counted(exported.n_labels, 'label')} written to {exported.path}")
    if kind == "folder" and exported.can_be_repeated:
        console.print(f"to make the same model again: cd {exported.path} && python reproduce.py")
    elif kind == "folder":
        problems.print(
            "the model was not made from exactly these labels in a known order; see README.md in the folder", style="yellow"
        )


@app.command(epilog="Example:  mlpot bench --peers --json bench.json")
@reports_errors
def bench(
    peers: Annotated[bool, typer.Option("--peers", help="Measure installed peers in the same run.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows to this file.")] = None,
) -> None:
    """Time of energy, forces and stress with and without uncertainty, of neighbour lists, fits and refits."""
    from ..bench import run_benchmarks
    from ..durable import write_text

    check_target("--json", json_file)
    rows = []
    table = Table("name", "system", "atoms", "sparse", "us/atom", "with uncertainty", "threads")
    for row in run_benchmarks(peers):
        rows.append(row)
        console.print(f"measured {row['name']} on {row['system']}", style="dim")
        cells = [
            row.get(k)
            for k in ("name", "system", "n_atoms", "n_sparse", "us_per_atom", "us_per_atom_with_uncertainty", "threads")
        ]
        table.add_row(*("-" if c is None else f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
    console.print(table)
    if json_file:
        write_text(json_file, json.dumps(rows, indent=1))


app.command(
    epilog="Example:  mlpot template learn start.xyz > learn.toml;  mlpot template ipi start.xyz --beads 8 -o run"
)(reports_errors(template))
app.command(epilog="Example:  mlpot driver si.h5 --template init.xyz --unix si")(reports_errors(driver))
app.command(
    "ipi-pes", epilog="Example:  i-pi-driver-py -u -a si -m custom -P $(mlpot ipi-pes) -o model=si.h5,template=init.xyz"
)(reports_errors(ipi_pes))
app.command("export-lammps", epilog="Example:  mlpot export-lammps si.h5 -o si.mlpot")(reports_errors(export_lammps))
lammps = typer.Typer(no_args_is_help=True, help="The pair style for LAMMPS.", rich_markup_mode="markdown")
lammps.command(epilog="Example:  mlpot lammps build --source ~/lammps -o plugins")(reports_errors(build))
lammps.command(epilog="Example:  mlpot lammps sources mlpot-lammps")(reports_errors(sources))
app.add_typer(lammps, name="lammps")
