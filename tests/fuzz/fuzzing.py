"""Fuzzers: damaged inputs of every kind, read in a process of their own, so that a crash or a hang is a finding.

A kind of input is a `Target`: it writes a good input, damages it in many ways, and says what reading gives. The outcome of a damaged
input must be an error of mlpot in one line, or what the good input gives. Mutations that a user could have meant (another number in a
text file) are not silent differences; a target says which of its damages must not change the answer.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mlpot.errors import MlpotError

MODULES = ("h5_targets", "core_targets", "text_targets", "db_targets")
SECONDS_EACH = 60.0
"""A process hangs that computes for this long without a word: processor time, since machines may be busy with other work."""
LONGEST_WAIT = 20 * SECONDS_EACH
"""Or that waits for this long, by the clock."""
MEMORY = 6 * 2**30
"""Bytes of address space: a damaged size must not ask for more."""


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Parameters
    ----------
    make : callable
        (folder, variant) -> None: writes a good input into the folder.
    damage : callable
        (folder, random generator) -> what was done, for people; the folder holds a fresh good input.
    read : callable
        Folder -> numbers that the input stands for.
    same : bool
        Whether damage that is not noticed must leave the answer as it was.
    n_variants : int
        Small inputs that are damaged in turn are read faster than one with everything in it.
    """

    make: Callable[[Path, int], None]
    damage: Callable[[Path, np.random.Generator], str]
    read: Callable[[Path], Any]
    same: bool
    n_variants: int = 1


def targets() -> dict[str, Target]:
    """All kinds by name."""
    sys.path.insert(0, str(Path(__file__).parent))
    return {name: target for module in MODULES for name, target in importlib.import_module(module).TARGETS.items()}


def outcome(target: Target, folder: Path, good: Any) -> tuple[str, str]:
    """What reading a damaged input comes to: "error", "same", "other answer", or what is wrong, with details."""
    try:
        found = target.read(folder)
    except MlpotError as error:
        text = str(error)
        if any(ord(c) < 32 for c in text.replace("\n", "")):
            return "unescaped message", repr(text)
        return "error", text
    except Exception as error:
        return "other exception", f"{type(error).__name__}: {error}"
    if equal(found, good):
        return "same", ""
    return ("silent difference" if target.same else "other answer"), ""


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return first is not None and second is not None and np.array_equal(first, second, equal_nan=True)
    return first == second


def work(name: str, folder: Path, begin: int, end: int) -> None:
    """In the process: damage and read inputs begin .. end, a line for each."""
    import resource

    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which reserves terabytes, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    target = targets()[name]
    variants = [_Variant(target, folder / str(k), k) for k in range(min(target.n_variants, end - begin))]
    for number in range(begin, end):
        variant = variants[number % len(variants)]
        variant.restore()
        what = target.damage(variant.folder, np.random.default_rng([number, 7]))
        _say([number, "begun", what])
        started = time.process_time()
        said, detail = outcome(target, variant.folder, variant.good)
        if time.process_time() - started > 0.5 * SECONDS_EACH:
            said = "hang"
        _say([number, said, detail[:300]])


class _Variant:
    """A good input in a folder of its own, and what reading it gives."""

    def __init__(self, target: Target, folder: Path, number: int):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        target.make(folder, number)
        self.folder = folder
        self._kept = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.good = target.read(folder)

    def restore(self) -> None:
        for entry in os.scandir(self.folder):
            if entry.name not in self._kept:
                os.unlink(entry.path)
        for name, data in self._kept.items():
            (self.folder / name).write_bytes(data)


def _say(line: list) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def fuzz(name: str, folder: Path, n_inputs: int, first: int = 0) -> tuple[Counter, list[str]]:
    """Counts of outcomes of so many damaged inputs, and every finding."""
    counts, findings, begin, end = Counter[str](), list[str](), first, first + n_inputs
    while begin < end:
        done, last, failure = _run(name, folder, begin, end)
        for number, said, detail in done:
            counts[said] += 1
            if said not in ("error", "same", "other answer"):
                findings.append(f"{name} {number}: {said}: {detail}")
        if failure:
            counts[failure] += 1
            findings.append(f"{name} {last}: {failure}")
        begin = (begin if not done else done[-1][0] + 1) + bool(failure)
        if failure and last is None:
            break  # it does not even begin
    return counts, findings


def _run(name: str, folder: Path, begin: int, end: int) -> tuple[list[list], Any, str]:
    """Outcomes of one process, what it was at when it ended, and how it failed."""
    command = [sys.executable, __file__, name, str(folder), str(begin), str(end)]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = folder.parent / f"{folder.name}.log"
    folder.mkdir(exist_ok=True)
    with open(log, "w") as out, open(f"{log}.err", "w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        size, used, since, hangs = -1, 0.0, time.monotonic(), False
        while process.poll() is None:
            time.sleep(0.05)
            if log.stat().st_size != size:
                size, used, since = log.stat().st_size, _processor_time(process.pid), time.monotonic()
            elif _processor_time(process.pid) - used > SECONDS_EACH or time.monotonic() - since > LONGEST_WAIT:
                process.kill()
                process.wait()
                hangs = True
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("]")]
    done = [line for line in lines if line[1] != "begun"]
    last = lines[-1] if lines else None
    if hangs:
        return done, last, "hang"
    if process.returncode:
        said = Path(f"{log}.err").read_text().strip().splitlines()[-1:]
        return done, last, f"crash with status {process.returncode} {said}"
    return done, last, ""


def _processor_time(pid: int) -> float:
    """s; 0 of a process that has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def flipped(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Bytes with one to eight of them changed, cut off, repeated or inserted."""
    kind, changed = rng.integers(6), bytearray(data)
    place = int(rng.integers(len(data)))
    if kind == 0:
        return bytes(changed[:place]), f"cut at {place}"
    if kind == 1:
        length = int(rng.integers(1, 64))
        changed[place:place] = rng.bytes(length)
        return bytes(changed), f"{length} bytes inserted at {place}"
    if kind == 2:
        changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed), f"one bit at {place}"
    places = rng.integers(len(data), size=int(rng.integers(1, 9)))
    for p in places.tolist():
        changed[p] = int(rng.choice([0, 255, 127, 128, int(rng.integers(256))]))
    return bytes(changed), f"bytes at {places.tolist()}"


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
