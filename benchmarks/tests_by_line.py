"""Which test meets which line: every quick test is run once with its lines recorded, and timed.

    python -m pip install coverage
    python benchmarks/tests_by_line.py --into build/test_map.json        # half an hour on one idle processor

`benchmarks/mutants.py` takes the tests of a mutant from this map. Programs that a test starts are not recorded.
"""

import argparse
import gc
import importlib
import json
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "kernels", "core", "contract", "terms", "uncertainty", "models", "fitting", "descriptors", "interop", "settings", "properties",
    "peers", "data", "learning", "labels", "report", "analysis", "commands", "drivers", "workers",
)  # fmt: skip
"""Of `tests`, in which a module of the mutated rooms is met; what starts whole programs only would show nothing."""
LIMIT = 300.0
"""Seconds for all tests of a file."""


THIRD_PARTY = (
    "ase.build", "ase.calculators.emt", "ase.calculators.lj", "ase.md", "ase.optimize", "h5py", "hypothesis", "matplotlib.figure",
    "numpy.testing", "pydantic", "pytest", "rich.console", "scipy.linalg", "scipy.optimize", "scipy.spatial", "scipy.stats", "typer",
    "xdist",
)  # fmt: skip


def preload() -> None:
    """Import what tests import beside the package, so that every child of this process starts at once."""
    for name in THIRD_PARTY:
        importlib.import_module(name)
    gc.freeze()


def in_child(work, limit: float) -> int:
    """Exit status of a function run in a child process of its own group; -1 where it took longer than `limit` seconds."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        status = 70
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
                status = int(work())
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    return -1


def enter(home: Path) -> None:
    """Make this process one that runs the tests of a checkout."""
    os.chdir(home)
    sys.path[:0] = [str(home), str(home / "tests"), str(home / "tests/fuzz")]
    os.environ |= {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}


def processor_seconds() -> float:
    """Processor time of this process and of the children it has waited for: other programs do not count."""
    return sum(os.times()[:4])


class Recorder:
    """A plugin of pytest: lines by test, and seconds of each."""

    def __init__(self, coverage):
        self.coverage, self.seconds = coverage, {}

    def pytest_runtest_logstart(self, nodeid, location):
        self.coverage.switch_context(nodeid)
        self.seconds[nodeid] = -processor_seconds()

    def pytest_runtest_logfinish(self, nodeid, location):
        self.seconds[nodeid] += processor_seconds()


def record(home: Path, test_file: str, into: Path) -> int:
    """Run the tests of a file; write {"seconds": {test: s}, "lines": {module: {line: [test, ...]}}}."""
    import coverage
    import pytest

    enter(home)
    watch = coverage.Coverage(data_file=None, source=[str(home / "mlpot")], config_file=False)
    recorder = Recorder(watch)
    watch.start()
    status = pytest.main(["-q", "-m", "not slow", "-p", "no:randomly", "-p", "no:xdist", test_file], plugins=[recorder])
    watch.stop()
    data, lines = watch.get_data(), {}
    for module in data.measured_files():
        by_line = {n: [t for t in tests if t] for n, tests in data.contexts_by_lineno(module).items()}
        lines[str(Path(module).relative_to(home))] = {n: tests for n, tests in by_line.items() if tests}
    into.write_text(json.dumps({"status": int(status), "seconds": recorder.seconds, "lines": lines}))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "test_map.json")
    parser.add_argument("--only", nargs="+", default=FOLDERS, metavar="NAME", help="folders of tests, or files in them")
    options = parser.parse_args()
    preload()
    parts = options.into.with_suffix("")
    parts.mkdir(parents=True, exist_ok=True)
    places = [ROOT / "tests" / name for name in options.only]
    for test_file in (f for place in places for f in (sorted(place.glob("test_*.py")) if place.is_dir() else [place])):
        name = str(test_file.relative_to(ROOT))
        part = parts / f"{test_file.stem}.json"
        if part.exists() and part.stat().st_mtime > test_file.stat().st_mtime:
            continue
        start = time.monotonic()
        status = in_child(lambda name=name, part=part: record(ROOT, name, part), LIMIT)
        print(f"{time.monotonic() - start:6.1f} s  {status}  {name}", flush=True)
    options.into.write_text(json.dumps({f.stem: json.loads(f.read_text()) for f in sorted(parts.glob("*.json"))}))


if __name__ == "__main__":
    main()
