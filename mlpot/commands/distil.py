"""`mlpot distil`: a fast potential from a slow one, for one system."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ConfigError, counted
from .console import check_target, console, table

if TYPE_CHECKING:
    from ase import Atoms

    from ..learning.distillation import Exploration, Judgement, Teacher
    from ..learning.verdict import Verdict
    from ..models.sparse_gp import SparseGP

Temperatures = Annotated[list[float] | None, typer.Option("--temperature", "-T", help="K; repeatable, 300 by default.")]
Pressures = Annotated[
    list[float] | None, typer.Option("--pressure", "-P", help="GPa; repeatable. The cell is constant without it.")
]


def distil(
    structure: Annotated[Path, typer.Argument(help="The structure to start from, in any format that ASE reads.")],
    calculator: Annotated[str, typer.Option(help="Import path of the ASE calculator to learn from, package.module.Class.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file to write.")],
    parameters: Annotated[str, typer.Option(help="Keyword arguments of the calculator, as JSON.")] = "{}",
    temperature: Temperatures = None,
    pressure: Pressures = None,
    steps: Annotated[int, typer.Option(min=10, help="Largest number of steps at each temperature and pressure.")] = 5000,
    timestep: Annotated[float, typer.Option(min=0.01, help="Time step, fs.")] = 1.0,
    target: Annotated[float, typer.Option(min=1e-4, help="Force error to aim at, eV/A.")] = 0.05,
    preset: Annotated[Literal["fast", "balanced", "accurate"], typer.Option(help="Kind of model.")] = "balanced",
    max_labels: Annotated[int | None, typer.Option(min=1, help="Largest number of calculations to learn from.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Calculations at the same time.")] = 1,
    timing: Annotated[Path | None, typer.Option(help="Another structure, such as a larger cell, on which to time both.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an exploration that was interrupted.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write errors and speed-up to this file.")] = None,
) -> None:
    """Turn any ASE calculator into a fast potential with an uncertainty, for one system.

    Dynamics at the given temperatures and pressures explore, learn from the calculator where the model is uncertain, and stop when
    it is not; then both are compared on fresh structures.
    """
    from ..learning.distillation import Exploration, Teacher
    from ..structures import read_structures

    for option, file in (("--output", output), ("--json", json_file)):
        check_target(option, file, structure, timing)
    larger = None if timing is None else read_structures(timing)[-1]
    teacher = Teacher(calculator, _parsed(parameters))
    exploration = Exploration(
        str(structure), temperature or [300.0], pressure or [], steps, timestep, target, preset, max_labels, workers, seed
    )
    found = _explored(exploration, teacher, output.with_suffix(".run"), resume)
    found.model.save(output)
    _conclude(exploration, teacher, found, larger, json_file)
    console.print(f"model: {output}", markup=False)


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--parameters {text}: is not JSON ({error}); write for example '{{\"method\": \"GFN1-xTB\"}}'") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--parameters {text}: must be an object such as '{{\"method\": \"GFN1-xTB\"}}'")
    return found


@dataclass(frozen=True)
class Explored:
    """Results of an exploration: the model, the last structure of each walker, the verdict, the number of labels."""

    model: SparseGP
    starts: list[Atoms]
    verdict: Verdict | None
    n_labels: int


def _explored(exploration: Exploration, teacher: Teacher, folder: Path, resume: bool) -> Explored:
    """Run the exploration."""
    from ..config import learning_run
    from ..learning.log_format import RUN_LOG
    from ..report.live import LiveView
    from ..report.run_report import write_run_report

    settings = exploration.settings(teacher, str(folder))
    with learning_run(settings, resume) as run, LiveView(console, run.campaign.folder / RUN_LOG) as view:
        logging.getLogger("mlpot").addHandler(view.handler)
        run.observer = view.show
        with run.deadline.listening():
            run.run()
        learner = run.campaign.learner
        starts = [walker.atoms.copy() for walker in run.walkers]
    console.print(f"report: {write_run_report(folder)}", markup=False)
    return Explored(learner.fitted_model, starts, run.verdict, learner.n_labels)


def _conclude(
    exploration: Exploration, teacher: Teacher, explored: Explored, timed: Atoms | None, json_file: Path | None
) -> None:
    """Compare with the teacher, and say how it went."""
    from ..durable import write_text
    from ..learning.distillation import fresh_structures, judge

    temperatures = [t for t in exploration.temperatures for _ in exploration.pressures or [0.0]]
    frames = fresh_structures(explored.model, explored.starts, temperatures, exploration.timestep)
    found = judge(explored.model, teacher, frames, timed)
    console.print(f"{counted(explored.n_labels, 'label')} in all", markup=False)
    console.print(_table(found, teacher))
    verdict = explored.verdict
    is_converged = verdict is not None and verdict.is_converged and found.force_rmse <= exploration.target
    if verdict is not None:
        console.print(verdict.text, style="green" if is_converged else "red", markup=False)
    if found.force_rmse > exploration.target:
        better = "" if exploration.preset == "accurate" else ", or start again with a more accurate --preset"
        said = f"the error on fresh structures is above --target {exploration.target:g} eV/A"
        console.print(f"{said}: continue with --resume and more --steps{better}", style="red", markup=False)
    if json_file is not None:
        values = {**found.to_dict(), "is_converged": is_converged, "n_labels": explored.n_labels}
        write_text(json_file, json.dumps(values, indent=1))


def _table(found: Judgement, teacher: Teacher) -> Any:
    rows = [
        ("RMS force error", f"{found.force_rmse:.4f} eV/A, expected {found.expected_force_rmse:.4f}"),
        ("RMS energy error", f"{found.energy_rmse:.3f} meV/atom"),
        (f"{teacher.calculator}, {counted(found.n_atoms, 'atom')}", f"{found.teacher_seconds:.4g} s"),
        (f"model, {counted(found.n_atoms, 'atom')}", f"{1e3 * found.model_seconds:.4g} ms"),
        ("speed-up", f"{found.speed_up:.0f} x"),
    ]
    return table(f"Against the calculator on {found.n_structures} fresh structures", ("", ""), rows)
