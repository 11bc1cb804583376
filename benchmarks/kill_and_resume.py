"""Kills learning runs again and again, and compares what is left with a run that was let be.

    python benchmarks/kill_and_resume.py --kills 200
    python benchmarks/kill_and_resume.py inputs/learn_si.toml --kills 30 --longest 8

Runs a configuration once without a kill and once with `kill -9` at random instants, of the simulation, of the process that
makes a label, or of both, each followed by --resume where the simulation has ended; then compares labels, log and trajectories
bit for bit, looks for files that cannot be read, and counts labels that were paid for twice. Without a configuration it is
three walkers on a potential that costs nothing, whose calculations note durably when they begin and end. So it can be told of
every calculation that was done again how far the one before had come when it was killed: it had not ended, it had ended but its
result was not on the disk yet, or it was there, which must not happen.
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
from mlpot.labellers import inbox
from mlpot.labellers.faulty import Note, fingerprint, notes
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


def command(config: Path, resume: bool) -> list[str]:
    """`mlpot learn` of this environment."""
    return [sys.executable, "-m", "mlpot", "learn", str(config), *(["--resume"] if resume else [])]


def start(config: Path, resume: bool) -> subprocess.Popen:
    """One thread: a run of two threads may differ in the last bit where a foreign code makes the labels."""
    return subprocess.Popen(
        command(config, resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def prepared(config: Path | None, name: str, scratch: Path, steps: int) -> tuple[Path, Path]:
    """A configuration with a run folder of its own, and that folder."""
    if config is None:
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
    target : str
        "simulation", "worker" or "all".
    pids : list of int
        What was killed.
    time : float
        s since the epoch.
    durable : set of str
        Fingerprints of structures.
    """

    target: str
    pids: list[int]
    time: float
    durable: set[str]


def strike(process: subprocess.Popen, folder: Path, rng: random.Random) -> Kill:
    """Kill the simulation, one of its workers, or all of them."""
    workers = labelling(process.pid)
    target = rng.choices(["simulation", "worker", "all"], [6, 2, 2])[0]
    victims = [process.pid] if target != "worker" else rng.sample(workers, min(1, len(workers)))
    victims += workers if target == "all" else []
    now = time.time()
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(start_time(pid) for pid in victims):
        time.sleep(0.001)
    return Kill(target, victims, now, durable(folder))


def durable(folder: Path) -> set[str]:
    """Structures of which there are results, in the inbox or, where they go from there, in labels.db."""
    found = [inbox.take(folder / "inbox", key) for key in inbox.waiting(folder / "inbox")]
    stored = rows(folder) if (folder / "labels.db").exists() else []
    return {fingerprint(one[0]) for one in found if one} | {fingerprint(row.toatoms()) for row in stored}


def run_with_kills(config: Path, folder: Path, kills: int, longest: float, rng: random.Random) -> list[Kill]:
    """Start, kill, resume until it completes."""
    struck: list[Kill] = []
    process, target = start(config, False), ""
    while True:
        wait = rng.uniform(0.05, longest) if len(struck) < kills else None
        try:
            _, errors = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            struck.append(strike(process, folder, rng))
            target = struck[-1].target
            if target == "worker":
                continue
            process.communicate()
        else:
            if process.returncode == 0:
                return struck
            # the worker that looks at the settings before anything begins is not replaced: the run says so and ends
            if target != "worker" or b"killed by SIGKILL" not in errors:
                sys.exit(f"after {len(struck)} kills the run failed:\n{errors.decode()}")
        # killed before it had written anything, a folder is as good as new
        process, target = start(config, resume=any(config.parent.glob(f"run_{config.stem}/*"))), ""


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
    json.loads((killed / "state.json").read_text())
    mlpot.load_model(killed / "model.h5")
    mlpot.Fit.load(killed / "fit.h5")
    left = [file.name for file in (killed / "inbox").glob("*")] + [file.name for file in killed.glob("*.unreadable*")]
    return wrong + left


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
    parser.add_argument("--longest", type=float, default=4.0, help="seconds between kills at the most")
    parser.add_argument("--steps", type=int, default=600, help="of each of the three walkers, without a configuration")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        config, whole = prepared(arguments.config, "whole", scratch, arguments.steps)
        started = time.perf_counter()
        process = start(config, False)
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors.decode())
        print(f"without a kill: {len(rows(whole))} labels, {time.perf_counter() - started:.0f} s", flush=True)
        started = time.perf_counter()
        config, killed = prepared(arguments.config, "killed", scratch, arguments.steps)
        kills = run_with_kills(config, killed, arguments.kills, arguments.longest, random.Random(arguments.seed))
        struck = dict(Counter(kill.target for kill in kills))
        print(f"killed {struck}: {len(rows(killed))} labels, {time.perf_counter() - started:.0f} s")
        wrong = compare(whole, killed)
        again = repeats(notes(scratch / "calls_killed"), kills)
        unwritten = ", ".join(f"{milliseconds:.1f} ms" for milliseconds in again.unwritten)
        print(f"differs or is left over: {wrong or 'nothing'}")
        print(
            f"calculations made again: {again.unfinished} that were killed before they ended; {len(again.unwritten)} that had "
            f"ended, but whose result was not on the disk ({unwritten}); {again.needless} whose result was there"
        )
        if wrong or again.needless:
            sys.exit(1)


if __name__ == "__main__":
    main()
