"""What the tests of labellers and stores share: structures, labellers, tasks that misbehave."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.lj import LennardJones
from conftest import LENNARD_JONES, make_frames

from mlpot.durable import write_text
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import calls
from mlpot.labellers.protocol import Label
from mlpot.labels.requests import LabelSource
from mlpot.labels.store import LabelStore

LJ = "ase.calculators.lj.LennardJones"
FAULTY = "mlpot.labellers.faulty.FaultyCalculator"


def crystal(seed=0):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def faulty(folder, **plan):
    return CalculatorLabeller(FAULTY, {"calls_file": str(folder / "calls.txt"), **plan})


def emt_with(scale):
    """A function that makes a calculator, as users write them."""
    return LennardJones(epsilon=scale)


def print_and_exit(status):
    sys.stdout.write("these are my last words\n")
    sys.stdout.flush()
    os.system("echo and those of a program that I started")
    os._exit(status)


def pid_and_threads():
    return os.getpid(), threading.active_count()


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def raise_unpicklable():
    raise UnpicklableError("one", "two")


def leave_a_program_behind():
    os.system("sleep 30 &")
    os._exit(1)


def start_a_child(file):
    process = subprocess.Popen(["sleep", "600"])
    write_text(file, str(process.pid))
    time.sleep(600)


def has_ended(pid, seconds=20.0):
    """Whether a process is gone (or a zombie) within a few seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


LJ_LABELLER = CalculatorLabeller(LJ, {"sigma": 2.0})


def structure(seed, pbc=True):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.pbc = pbc
    return atoms


def random_label(seed, stress=True):
    rng = np.random.default_rng(seed)
    tensor = rng.normal(size=(3, 3))
    return Label(
        energy=rng.normal() * 1e3,
        forces=rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-300, 3, size=(4, 3)),
        stress=tensor + tensor.T if stress else None,
        seconds=rng.random(),
        settings={"calculator": "package.Code", "parameters": {"kpts": [2, 2, 2]}},
    )


def key(number):
    return f"{number:x}".rjust(64, "a")


def other_process(code, *arguments):
    """Run Python code that may import mlpot; its output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.stdout + done.stderr


class HereAndNow(Executor):
    """Does the work at once, in this process: for tests of what a source makes of it."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def bare(seed=0):
    """A structure without results, for the Lennard-Jones potential of the fixtures."""
    atoms = make_frames(1, seed=seed)[0]
    atoms.calc = None
    return atoms


def labeller_of(folder, **plan):
    return CalculatorLabeller(FAULTY, {"parameters": LENNARD_JONES, "calls_file": str(folder / "calls"), **plan})


def source(folder, executor=None, tries=2, fallback=None, **plan):
    labeller = labeller_of(folder, **plan)
    other = labeller.varied(fallback) if fallback else None
    return LabelSource(labeller, LabelStore(folder), executor or HereAndNow(), tries, fallback=other)


def n_calls(folder, event="start"):
    return len(calls(folder / "calls", event))
