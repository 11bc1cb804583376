"""Kills learning runs again and again, and compares what is left with a run that was let be.

    python benchmarks/kill_and_resume.py --kills 200
    python benchmarks/kill_and_resume.py inputs/learn_si.toml --kills 30 --longest 8
    python benchmarks/kill_and_resume.py --lammps --kills 50

Runs a configuration once without a kill and once with `kill -9` at random instants, of the simulation, of the process that
makes a label, or of both, each followed by --resume where the simulation has ended; then compares labels, log and trajectories
bit for bit, looks for files that cannot be read, and counts labels that were paid for twice. Without a configuration it is
three walkers on a potential that costs nothing, whose calculations note durably when they begin and end. So it can be told of
every calculation that was done again how far the one before had come when it was killed: it had not ended, it had ended but its
result was not on the disk yet, or it was there, which must not happen. With --lammps it is a melting crystal in LAMMPS. As LAMMPS
does not repeat a stretch bit for bit after a restart, that run is not compared with one that was let be: every result that was on
the disk at a kill must be among the labels at the end.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ase.db
import ase.io
from ase.build import bulk

import mlpot
from mlpot.labellers.faulty import Note, fingerprint, notes
from mlpot.labels import inbox
from mlpot.learning.run_folder import holder_of
from mlpot.processes import start_time

OWN = """
[structure]
file = "{folder}/start.xyz"
[dynamics]
ensemble = "nvt"
temperature_K = [100, 900]
timestep_fs = 2.0
steps = {steps}
[labeller]
calculator = "mlpot.labellers.faulty.FaultyCalculator"
tries = 10
workers = 2
[labeller.parameters]
calls_file = "{folder}/calls_{name}"
seconds = 0.15
parameters = {{ sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true }}
[learning]
target = 0.01
soft_fraction = 0.5
check_interval = 40
min_interval = 3
[model]
preset = "fast"
cutoff = 4.0
[output]
folder = "{folder}/run_{name}"
checkpoint_s = 0.5
interval = 5
[[walkers]]
name = "nvt"
replicas = 2
[[walkers]]
name = "npt"
ensemble = "npt"
"""

OWN_LAMMPS = """
[dynamics]
engine = "lammps"
input = "{folder}/in.lammps"
look_every = 5
leg = 20
[labeller]
calculator = "mlpot.labellers.faulty.FaultyCalculator"
tries = 10
[labeller.parameters]
calls_file = "{folder}/calls_{name}"
seconds = 0.15
parameters = {{ sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true }}
[learning]
target = 0.01
check_interval = 40
min_interval = 3
[model]
preset = "fast"
cutoff = 4.0
[output]
folder = "{folder}/run_{name}"
checkpoint_s = 0.5
interval = 5
"""
INPUT = """
units metal
lattice fcc 3.6
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 28.0855
pair_style mlpot
pair_coeff * * si.mlpot Si
velocity all create 200 4928 mom yes rot no
fix move all nvt temp 100 900 0.1
timestep 0.002
thermo 100
run {steps}
"""

MOMENTS = {"starting": 1, "running": 3, "calculating": 4}
"""When kills come, and how often."""
AIM = 0.4
"""So many s after the beginning of a calculation, at the most."""


@dataclass(frozen=True)
class Killed:
    """A run that is to be killed: its configuration, folder and notes of calculations; s between kills at the most."""

    config: Path
    folder: Path
    calls: Path
    longest: float


def command(config: Path, resume: bool) -> list[str]:
    """`mlpot learn` of this environment."""
    return [sys.executable, "-m", "mlpot", "learn", str(config), *(["--resume"] if resume else [])]


def start(config: Path, resume: bool) -> subprocess.Popen:
    """One thread: a run of two threads may differ in the last bit where a foreign code makes the labels."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(errors_of(config), "w") as errors:
        return subprocess.Popen(command(config, resume), stdout=subprocess.DEVNULL, stderr=errors, env=environment)


def errors_of(config: Path) -> Path:
    """What a run has to say."""
    return config.with_suffix(".errors")


def prepared(config: Path | None, name: str, scratch: Path, steps: int, in_lammps: bool = False) -> tuple[Path, Path]:
    """A configuration with a run folder of its own, and that folder."""
    if in_lammps:
        (scratch / "in.lammps").write_text(INPUT.format(steps=steps))
        text = OWN_LAMMPS.format(folder=scratch, name=name)
    elif config is None:
        atoms = bulk("Si", "fcc", a=3.6, cubic=True) * (2, 2, 2)
        atoms.rattle(0.02, seed=1)
        ase.io.write(scratch / "start.xyz", atoms)
        text = OWN.format(folder=scratch, name=name, steps=steps)
    else:
        folder = tomllib.loads(config.read_text())["output"]["folder"]
        text = config.read_text().replace(f'"{folder}"', f'"{scratch}/run_{name}"')
    target = scratch / f"{name}.toml"
    target.write_text(text)
    return target, scratch / f"run_{name}"


def labelling(pid: int) -> list[int]:
    """Processes that a simulation has started, spare ones included."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@dataclass(frozen=True)
class Kill:
    """What was killed, when, and which results were on the disk when it was dead.

    Parameters
    ----------
    moment : str
        One of `MOMENTS`.
    target : str
        "simulation", "worker" or "all".
    pids : list of int
        What was killed.
    time : float
        s since the epoch.
    durable : set of str
        Fingerprints of structures.
    """

    moment: str
    target: str
    pids: list[int]
    time: float
    durable: set[str]


def instant(process: subprocess.Popen, run: Killed, rng: random.Random) -> str | None:
    """Wait for the instant of a kill: which of `MOMENTS` it is; None when the run has ended before.

    Starting takes seconds, in which there is nothing to lose: most kills are timed from when that is over, half of them from
    the beginning of a calculation, so that they fall before, at and after its end.
    """
    moment = rng.choices(list(MOMENTS), MOMENTS.values())[0]
    begun = len(notes(run.calls))
    reached = {
        "starting": lambda: True,
        "running": lambda: (holder_of(run.folder) or {}).get("pid") == process.pid,
        "calculating": lambda: any(note.event == "start" for note in notes(run.calls)[begun:]),
    }[moment]
    while not reached():
        if process.poll() is not None:
            return None
        time.sleep(0.005)
    try:
        process.wait(rng.uniform(0.0, AIM if moment == "calculating" else run.longest))
    except subprocess.TimeoutExpired:
        return moment
    return None


def strike(process: subprocess.Popen, run: Killed, moment: str, rng: random.Random, in_lammps: bool) -> Kill:
    """Kill the simulation, one of its workers, one that calculates if there is any, or all of them."""
    workers = labelling(process.pid)
    busy = Counter(note.pid for note in notes(run.calls))
    at_work = [pid for pid in workers if busy[pid]] or ([] if in_lammps else workers)  # LAMMPS itself is not replaced
    target = rng.choices(["simulation", "worker", "all"], [2, 2, 1])[0] if at_work else "simulation"
    victims = [process.pid] if target != "worker" else [rng.choice(at_work)]
    victims += workers if target == "all" else []
    now = time.time()
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(start_time(pid) for pid in victims):
        time.sleep(0.001)
    return Kill(moment, target, victims, now, durable(run.folder))


def durable(folder: Path) -> set[str]:
    """Structures of which there are results, in the inbox or, where they go from there, in labels.db."""
    found = [inbox.take(folder / "inbox", key) for key in inbox.waiting(folder / "inbox")]
    stored = rows(folder) if (folder / "labels.db").exists() else []
    return {fingerprint(one[0]) for one in found if one} | {fingerprint(row.toatoms()) for row in stored}


def run_with_kills(run: Killed, kills: int, rng: random.Random, in_lammps: bool = False) -> list[Kill]:
    """Start, kill, resume until it completes."""
    struck: list[Kill] = []
    process, target = start(run.config, False), ""
    while True:
        moment = instant(process, run, rng) if len(struck) < kills else None
        if moment is None:
            process.wait()
        else:
            struck.append(strike(process, run, moment, rng, in_lammps))
            target = struck[-1].target
            if target == "worker":
                continue
            process.wait()
        if process.returncode == 0:
            return struck
        errors = errors_of(run.config).read_text()
        # the worker that looks at the settings before anything begins is not replaced: the run says so and ends
        if moment is None and (target != "worker" or "killed by SIGKILL" not in errors):
            sys.exit(f"after {len(struck)} kills the run failed:\n{errors}")
        # killed before it had written anything, a folder is as good as new
        process, target = start(run.config, resume=run.folder.exists() and any(run.folder.iterdir())), ""


def rows(folder: Path) -> list:
    """Labels of a run folder, in order."""
    return list(ase.db.connect(folder / "labels.db", use_lock_file=False).select(sort="id"))


def lines(file: Path) -> list[str]:
    """Lines of a file, of log.csv without the wall time."""
    text = file.read_text().splitlines()
    if file.suffix != ".csv":
        return text
    cells = [line.split(",") for line in text]
    at = cells[0].index("seconds")
    return [",".join(row[:at] + row[at + 1 :]) for row in cells]


def lost(folder: Path, kills: list[Kill]) -> list[str]:
    """Results that were on the disk at a kill and are not among the labels, and files that are left over."""
    kept = {fingerprint(row.toatoms()) for row in rows(folder)}
    gone = sorted({structure for kill in kills for structure in kill.durable} - kept)
    return gone + unreadable(folder)


def label_of(row) -> tuple:
    """What makes two labels the same, whatever was written into the parameters."""
    return row.walker, row.walker_step, row.reason, row.energy, row.forces.tobytes(), row.positions.tobytes()


def compare(whole: Path, killed: Path) -> list[str]:
    """What is wrong with the run that was killed."""
    wrong = [file.name for file in whole.glob("trajectory*.xyz") if lines(file) != lines(killed / file.name)]
    wrong += ["log.csv"] if lines(whole / "log.csv") != lines(killed / "log.csv") else []
    # labels of one round arrive in any order, and are learned in that of the walkers
    if sorted(map(label_of, rows(whole))) != sorted(map(label_of, rows(killed))):
        wrong.append("labels.db")
    return wrong + unreadable(killed)


def unreadable(folder: Path) -> list[str]:
    """Files that are left over; all others are read."""
    json.loads((folder / "state.json").read_text())
    mlpot.load_model(folder / "model.h5")
    mlpot.Fit.load(folder / "fit.h5")
    return [file.name for file in (folder / "inbox").glob("*")] + [file.name for file in folder.glob("*.unreadable*")]


@dataclass(frozen=True)
class Repeats:
    """Calculations that were done again, by how far the one before had come when it was killed.

    Parameters
    ----------
    unfinished : int
        It had not ended.
    unwritten : list of float
        It had ended so many ms before, and its result was not on the disk.
    needless : int
        Its result was on the disk, or it was not killed at all.
    """

    unfinished: int
    unwritten: list[float]
    needless: int


def repeats(noted: list[Note], kills: list[Kill]) -> Repeats:
    """Look at all attempts at the same structure but the last."""
    unfinished, unwritten, needless = 0, [], 0
    last = {note.fingerprint: note.pid for note in noted if note.event == "start"}
    ends = {(note.fingerprint, note.pid): note.time for note in noted if note.event == "end"}
    for _, structure, pid, began in (
        note for note in noted if note.event == "start" and note.pid != last[note.fingerprint]
    ):
        fatal = next((kill for kill in kills if pid in kill.pids and kill.time > began), None)
        if fatal is None or structure in fatal.durable:
            needless += 1
        elif (structure, pid) in ends:
            unwritten.append(1e3 * (fatal.time - ends[structure, pid]))
        else:
            unfinished += 1
    return Repeats(unfinished, unwritten, needless)


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds after the start, at the most")
    parser.add_argument("--steps", type=int, default=600, help="of each of the three walkers, without a configuration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lammps", action="store_true", help="a simulation in LAMMPS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        whole = None if arguments.lammps else run_whole(arguments.config, scratch, arguments.steps)
        started = time.perf_counter()
        config, folder = prepared(arguments.config, "killed", scratch, arguments.steps, arguments.lammps)
        run = Killed(config, folder, scratch / "calls_killed", arguments.longest)
        kills = run_with_kills(run, arguments.kills, random.Random(arguments.seed), arguments.lammps)
        print(f"killed {len(kills)} times: {len(rows(folder))} labels, {time.perf_counter() - started:.0f} s")
        for (moment, target), count in sorted(Counter((kill.moment, kill.target) for kill in kills).items()):
            print(f"    {moment}, {target}: {count}")
        wrong = lost(folder, kills) if whole is None else compare(whole, folder)
        again = repeats(notes(run.calls), kills)
        unwritten = ", ".join(f"{milliseconds:.1f} ms" for milliseconds in again.unwritten)
        print(f"{'lost' if whole is None else 'differs'} or is left over: {wrong or 'nothing'}")
        print(
            f"calculations made again: {again.unfinished} that were killed before they ended; {len(again.unwritten)} that had "
            f"ended, but whose result was not on the disk ({unwritten}); {again.needless} whose result was there"
        )
        if wrong or again.needless:
            sys.exit(1)


def run_whole(given: Path | None, scratch: Path, steps: int) -> Path:
    """The folder of a run that was let be."""
    config, folder = prepared(given, "whole", scratch, steps)
    started = time.perf_counter()
    if start(config, False).wait():
        sys.exit(errors_of(config).read_text())
    print(f"without a kill: {len(rows(folder))} labels, {time.perf_counter() - started:.0f} s", flush=True)
    return folder


if __name__ == "__main__":
    main()
