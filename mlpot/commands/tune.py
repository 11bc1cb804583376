"""`mlpot tune`: search for settings of a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from ase import Atoms
from rich.progress import Progress, TaskID

from ..errors import ConfigError, RunFolderError, counted
from .console import bars, check_target, console, table
from .data import EnergyKey, ForcesKey, StressKey, VirialKey, say_data

if TYPE_CHECKING:
    from ..settings.files import TuneFile
    from ..tuning.journal import Trial
    from ..tuning.result import TuneResult


def tune(
    data: Annotated[
        Path, typer.Argument(help="A TOML file with [data], and [model], [fit], [tune] if needed; or labelled structures.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file for `mlpot fit` to write.")] = Path("tuned.toml"),
    budget: Annotated[str | None, typer.Option(help='Wall time for trials, such as "30min" or "2h".')] = None,
    evaluations: Annotated[int | None, typer.Option(min=1, help="Number of trials.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at the same time, each in a process.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in the journal next to the output.")] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    virial_key: VirialKey = None,
) -> None:
    """Find settings of a model on your data: cutoffs, orders, widths and exponents first, then noises and sparse points.

    Next to the output are others on the front of errors and cost (tuned_1.toml, ...), a report (tuned.html) and the journal of the
    search (tuned.db), with which `--resume` goes on after any interruption.
    """
    from ..tuning.report import write_tune_report
    from ..tuning.tuner import tune as search

    settings = _settings(data, [energy_key, forces_key, stress_key, virial_key])
    given = {"budget": budget, "evaluations": evaluations, "workers": workers}
    given = {key: value for key, value in given.items() if value is not None}
    tuning = settings.tune.checked({**dict(settings.tune), **given}, "options")
    check_target("--output", output)
    if output.suffix != ".toml":
        raise ConfigError(f"--output {output}: is a configuration for `mlpot fit`; end its name with .toml")
    journal = output.with_suffix(".db")
    if output.exists() and not resume and data.exists() and output.samefile(data):
        raise ConfigError(f"--output {output}: is the file that is read; choose another name")
    if journal.exists() and not resume:
        raise RunFolderError(f"{journal}: is the journal of an earlier search; continue it with --resume, or delete it")
    frames, test = _read(settings)
    with bars() as shown:
        result = search(
            frames, None, settings.fit_config(), test, tuning, journal=journal, resume=resume, seen=_Shown(shown)
        )
    files = _write(result, settings, output)
    report = output.with_suffix(".html")
    write_tune_report(result, report, [str(f) for f in files])
    _say(result, files, report, journal)


class _Shown:
    """Bars of the steps with the remaining time, and the best errors so far."""

    def __init__(self, shown: Progress):
        self._shown = shown
        self._tasks: dict[str, TaskID] = {}
        self._best = float("inf")
        self._failed = 0

    def __call__(self, trial: Trial, total: int) -> None:
        from ..tuning.front import mean_log

        if trial.step not in self._tasks:
            self._tasks[trial.step] = self._shown.add_task(f"{trial.step:16s}", total=total)
            self._best = float("inf")
        outcome, task = trial.outcome, self._tasks[trial.step]
        if outcome is not None and outcome.failure is not None:
            self._failed += 1
            console.print(f"trial {trial.number} failed: {outcome.failure}", style="dim", markup=False)
        elif outcome is not None and trial.step != "final" and mean_log(outcome.forces, outcome.energies) < self._best:
            self._best = mean_log(outcome.forces, outcome.energies)
            self._shown.update(task, description=f"{trial.step}: {_numbers(outcome.forces, outcome.energies, outcome.cost)}")
        self._shown.update(task, advance=1)


def _numbers(forces: float | None, energies: float | None, cost: float | None) -> str:
    """Errors and cost in a few words."""
    parts = [f"F {1e3 * forces:.3g} meV/A"] if forces is not None else []
    parts += [f"E {1e3 * energies:.3g} meV/atom"] if energies is not None else []
    parts += [f"{cost:.3g} us/atom"] if cost is not None else []
    return ", ".join(parts)


def _settings(file: Path, keys: list[str | None]) -> TuneFile:
    """The sections of a configuration, or those for structure files."""
    from ..config import read_config
    from ..settings.data import DataSettings
    from ..settings.files import TuneFile

    if file.suffix == ".toml":
        if any(keys):
            raise ConfigError(f"--energy-key and the others are for structure files; set them in [data] of {file}")
        return read_config(file, TuneFile)
    names = ("energy_key", "forces_key", "stress_key", "virial_key")
    given = {name: key for name, key in zip(names, keys, strict=True) if key is not None}
    return TuneFile(data=DataSettings(train=str(file), **given))


def _read(settings: TuneFile) -> tuple[list[Atoms], list[Atoms] | None]:
    from ..data.reading import read_labelled, read_sources

    found = read_sources(settings.data.sources())
    say_data("Training data", found)
    if not settings.data.test:
        return list(found.frames), None
    tested = read_labelled(settings.data.test, settings.data.keys())
    say_data("Test data", tested)
    return list(found.frames), list(tested.frames)


def _write(result: TuneResult, settings: TuneFile, output: Path) -> list[Path]:
    """The files of the chosen model and of the others on the front; fitting one does not replace an existing model."""
    from .. import __version__
    from ..durable import write_text
    from ..settings.output import FitOutput
    from ..tuning.fit_files import fit_file

    files = []
    for k, candidate in enumerate(result.pareto):
        file = output if k == 0 else output.with_name(f"{output.stem}_{k}.toml")
        wants_report = k == 0 and settings.output is not None and settings.output.report is not None
        report = str(file.with_name(f"{file.stem}_fit.html")) if wants_report else None
        first = candidate.tested[0]
        comment = f"mlpot tune {__version__}, {time.strftime('%Y-%m-%d')}"
        if first.failure is None:
            errors = _numbers(first.forces, first.energies, first.cost)
            comment += f"\non {counted(result.n_test, 'structure')} that no trial saw: {errors}"
        written = FitOutput(model=str(file.with_suffix(".h5")), report=report)
        write_text(file, fit_file(candidate.config, settings.data, written, comment))
        files.append(file)
    return files


def _say(result: TuneResult, files: list[Path], report: Path, journal: Path) -> None:
    from ..tuning.result import HEADS

    title = f"Errors on {counted(result.n_test, 'structure')} that no trial saw"
    console.print(table(title, HEADS, result.rows()))
    for line in result.summary():
        console.print(line, markup=False)
    console.print(f"for `mlpot fit`: {', '.join(map(str, files))}", markup=False)
    console.print(f"report: {report}", markup=False)
    console.print(f"journal: {journal} (delete it to begin another search)", markup=False)
