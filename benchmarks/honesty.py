"""Can a learning run be believed? Runs with the defaults of the template, judged by fresh reference calculations.

    OMP_NUM_THREADS=1 python benchmarks/honesty.py [--systems "CO/Cu(111),CuAu"] [--seeds 3] [--jobs 2] [--json all.json]
    OMP_NUM_THREADS=1 python benchmarks/honesty.py --quick           # a minute: three short runs and a dimer scan

For each system and seed: `mlpot template learn start.xyz`, in which only calculator, ensemble, temperature, steps, seed and folder
are set; `mlpot learn`; then predicted frames of the trajectory are calculated with the labels' own calculator. A row says how
large the force errors were, how large they were said to be, how often that was far off, and what verdict the run gave of itself.
Configurations of the folder `inputs` are run once, as they are. Tools that are not dynamics (relaxations, phonons, scans,
barriers) use a `LearningCalculator` and are compared with direct calculations. The last table compares everything with the
requirements. Finished results are kept in the folder and not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
from honesty_judge import judge
from honesty_systems import SHIPPED, SYSTEMS, Shipped, System
from honesty_tables import BOUND_HEADS, BOUNDS, RUN_HEADS, TOOL_HEADS, bound_rows, run_row, table, tool_row
from honesty_tools import TOOLS

from mlpot.keys.toml_text import toml_value

QUICK_STEPS = {"CO/Cu(111)": 200, "CuAu": 150, "ethanol": 120}
QUICK_TOOLS = ("dimer Cu",)
COMMAND = (sys.executable, "-m", "mlpot")


@dataclass(frozen=True)
class Task:
    """A run of one system with one seed, or a tool (`seed` and `steps` None); its results go to `folder`."""

    name: str
    folder: Path
    seed: int | None = None
    steps: int | None = None

    @property
    def result(self) -> Path:
        """File of a finished task."""
        return self.folder / "result.json"


def filled_in(template: str, values: Mapping[tuple[str, str], Any]) -> str:
    """A template with values replaced, by section and key; comments and all other lines stay.

    Raises
    ------
    KeyError
        If the template lacks one of them.
    """
    section, left, lines = "", dict(values), []
    for line in template.splitlines():
        if found := re.match(r"\[(\w+)\]", line):
            section = found[1]
        key = line.split(" = ")[0]
        lines.append(f"{key} = {toml_value(left.pop((section, key)))}" if (section, key) in left else line)
    if left:
        raise KeyError(f"not in the template: {', '.join(map('.'.join, left))}")
    return "\n".join(lines) + "\n"


def mlpot_says(arguments: Sequence[str], folder: Path) -> str:
    """Output of an mlpot command run in a folder; RuntimeError with its last words when it fails."""
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mlpot {' '.join(arguments)} in {folder}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def learn(system: System | Shipped, seed: int, folder: Path) -> dict:
    """Run a system as a new user would, and judge it."""
    if isinstance(system, Shipped):
        text = system.text()
    else:
        start = system.make()
        start.info.clear()
        ase.io.write(folder / "start.xyz", start, format="extxyz")
        text = mlpot_says(["template", "learn", "start.xyz"], folder)
    (folder / "learn.toml").write_text(filled_in(text, system.values(seed, "run")), encoding="utf-8")
    started = time.perf_counter()
    mlpot_says(["learn", "learn.toml"], folder)
    ran = time.perf_counter()
    found = judge(folder / "run", system.reference.make, system.n_judged)
    return {**found, "run_seconds": ran - started, "judge_seconds": time.perf_counter() - ran}


def perform(task: Task) -> dict:
    """Results of a task, from its file when it was finished before; a failed one has the key `failed` and no file."""
    if task.result.exists():
        return json.loads(task.result.read_text(encoding="utf-8"))
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    record: dict[str, Any] = {"name": task.name, "seed": task.seed}
    try:
        if task.seed is None:
            record |= TOOLS[task.name](task.folder)
        else:
            system = (SYSTEMS | SHIPPED)[task.name]
            shortened = system if task.steps is None else replace(system, steps=task.steps)
            record |= learn(shortened, task.seed, task.folder)
    except Exception as error:  # a benchmark goes on with the next system
        return {**record, "failed": f"{type(error).__name__}: {error}"}
    task.result.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return record


def tasks_of(options: argparse.Namespace) -> list[Task]:
    """Everything that the command line asks for."""
    folder = options.folder
    if options.quick:
        runs = [Task(n, folder / f"{slug(n)}-0-quick", 0, steps) for n, steps in QUICK_STEPS.items()]
        return runs + [Task(n, folder / f"tool-{slug(n)}") for n in QUICK_TOOLS]
    runs = [
        Task(name, folder / f"{slug(name)}-{seed}", seed) for name in options.systems for seed in range(options.seeds)
    ]
    runs += [Task(name, folder / slug(name), 0) for name in options.inputs]
    return runs + [Task(name, folder / f"tool-{slug(name)}") for name in options.tools]


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"\W+", "_", name).strip("_")


def perform_all(tasks: Sequence[Task], jobs: int) -> list[dict]:
    """Results in the order of the tasks, with more than one job from processes of their own; each is printed when ready."""
    if jobs == 1:
        return [shown(perform(task)) for task in tasks]
    results: dict[Task, dict] = {}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(perform, task): task for task in tasks}
        for future in as_completed(futures):
            results[futures[future]] = shown(future.result())
    return [results[task] for task in tasks]


def shown(record: dict) -> dict:
    """Print a result at once: a benchmark takes long."""
    print(tool_row(record) if record["seed"] is None else run_row(record), flush=True)
    return record


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, known in (("systems", SYSTEMS), ("inputs", SHIPPED), ("tools", TOOLS)):
        parser.add_argument(
            f"--{name}",
            type=names_among(known),
            default=list(known),
            metavar="A,B",
            help=f"of {', '.join(known)}; or none",
        )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each system")
    parser.add_argument("--quick", action="store_true", help="three short runs and a dimer scan")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/honesty"), help="for runs and results")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    return parser.parse_args(arguments)


def names_among(known: Mapping[str, Any]):
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return names

    return parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything, print the tables."""
    options = parsed(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any process is started
    options.folder = options.folder.resolve()
    tasks, results = tasks_of(options), []
    runs = [task for task in tasks if task.seed is not None]
    for heads, part in ((RUN_HEADS, runs), (TOOL_HEADS, [task for task in tasks if task.seed is None])):
        if part:
            print(f"\n{table(heads)}", flush=True)
            results += perform_all(part, options.jobs)
    print(f"\n{table(BOUND_HEADS)}")
    for row in bound_rows(BOUNDS, results):
        print(row)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
