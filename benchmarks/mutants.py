"""Random mutants: an operator, comparison, number or call of the package is changed, and the tests that meet it must notice.

    python benchmarks/tests_by_line.py                                       # once: which test meets which line
    python benchmarks/mutants.py -n 150 --seed 0 --only mlpot/models mlpot/fitting mlpot/terms mlpot/uncertainty
    python benchmarks/mutants.py -n 50 --only cython_ext/core                # C: what has changed is compiled and linked
    python benchmarks/mutants.py --again                                     # what survived or waits in the journal
    python benchmarks/mutants.py --change mlpot/durable.py "flush(file.parent)" "pass"       # a mutant of one's own

Everything happens in a copy of the checkout. Quick tests that meet the changed line run first, then small whole files of tests; a
mutant is caught when one fails or all take longer than the limit. Verdicts are written to a journal at once, so that a run can be
stopped and continued. A survivor is printed with its line: a test is missing there, or the change has no visible effect; such a
mutant can be marked "explained" in the journal.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from mutations import Mutant, all_mutants, one_line
from tests_by_line import enter, in_child, preload

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("mlpot", "cython_ext", "tests", "inputs", "examples", "docs", "setup.py", "pyproject.toml", "README.md", "CONVENTIONS.md")
BUDGET = 8.0
"""Seconds that the tests of one mutant take without a change, more or less."""
WHOLE_FILE = 2.0
"""A whole file of tests must not take longer to be added to those that meet a line."""
FLAGS = ["-std=gnu11", "-O0", "-fPIC", "-w", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
ONE_SET = ["-DMLPOT_DISPATCH=0", "-mavx2", "-mfma"]
"""One instruction set instead of three, except for what differs between them."""
DIFFERENT = ("dispatch.c", "vectors.h", "isa_avx2.c", "isa_avx512.c", "isa_baseline.c", "instruction_sets.h")
CORE_TESTS = {
    "acsf": ["tests/kernels/test_symmetry_functions.py"],
    "angle_histogram": ["tests/kernels/test_mbtr.py", "tests/peers/test_mbtr_numbers.py"],
    "bispectrum": ["tests/kernels/test_bispectrum.py", "tests/peers/test_snap_components.py"],
    "chebyshev": ["tests/kernels/test_chebyshev_zernike.py"],
    "moments": ["tests/kernels/test_chebyshev_zernike.py", "tests/kernels/test_symmetry_functions.py"],
    "triplet_functions": ["tests/kernels/test_symmetry_functions.py"],
    "triplet": ["tests/kernels/test_three_body.py"],
    "pair_gradients": ["tests/fitting/test_fit.py"],
    "pair": ["tests/kernels/test_pair_sums.py", "tests/kernels/test_pair_members.py"],
    "hermite": ["tests/kernels/test_pair_sums.py"],
    "shells": ["tests/kernels/test_symmetry_functions.py", "tests/kernels/test_chebyshev_zernike.py"],
    "covariants": ["tests/kernels/test_covariants.py"],
    "contractions": ["tests/kernels/test_contractions.py", "tests/contract/test_reduced_models.py"],
    "members": ["tests/kernels/test_members.py"],
    "energies": ["tests/kernels/test_density.py"],
    "jacobian": ["tests/kernels/test_density.py"],
    "rows": ["tests/kernels/test_density.py"],
    "harmonics": ["tests/kernels/test_density.py", "tests/peers/test_sphericart.py"],
    "model_deviations": ["tests/core/test_core_model.py"],
    "model_file": ["tests/core/test_core_file.py", "tests/core/test_hostile_core_files.py"],
    "model_load": ["tests/core/test_core_file.py", "tests/core/test_hostile_core_files.py"],
    "model_baseline": ["tests/core/test_core_model.py"],
    "model": ["tests/core/test_core_model.py"],
    "dispatch": ["tests/kernels/test_instruction_sets.py"],
}
"""Tests of the files of the core whose names begin so; all of `ALL_OF_THE_CORE` follow."""
ALL_OF_THE_CORE = ["tests/kernels/test_density.py", "tests/core/test_core_model.py", "tests/contract/test_compiled.py"]


class TestMap:
    """Tests by line, from `tests_by_line.py`."""

    def __init__(self, file: Path):
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[int, set[str]]] = {}
        for part in json.loads(file.read_text()).values():
            self.seconds |= part["seconds"]
            for module, by_line in part["lines"].items():
                mine = self.lines.setdefault(module, {})
                for line, tests in by_line.items():
                    mine.setdefault(int(line), set()).update(tests)

    def tests(self, mutant: Mutant) -> list[str]:
        """Tests that meet a line: in files that import the module, then in its room, the quickest first; then whole files."""
        by_line = self.lines.get(mutant.file, {})
        before = [line for line in by_line if line <= mutant.line]
        tests = by_line[max(before)] if before else set()
        if mutant.line not in by_line:  # within a statement, or run at import: everything that meets the module as well
            tests = tests.union(*by_line.values())
        room, by_name = f"tests/{Path(mutant.file).parent.name}/", set(importing(mutant.file))

        def rank(test: str) -> tuple:
            return self.seconds[test] > 2.0, test.partition("::")[0] not in by_name, not test.startswith(room), self.seconds[test]

        ordered = sorted(tests, key=rank)
        files = list(dict.fromkeys(test.partition("::")[0] for test in sorted(tests, key=lambda test: not test.startswith(room))))
        whole = {file: sum(s for t, s in self.seconds.items() if t.startswith(f"{file}::")) for file in files}
        chosen, left = [], BUDGET
        for test in ordered:
            if self.seconds[test] <= left:
                chosen.append(test)
                left -= self.seconds[test]
        return chosen + [file for file in files if whole[file] < WHOLE_FILE][:2] if chosen else importing(mutant.file)


def importing(file: str) -> list[str]:
    """Files of tests that import a module, for one that no recorded test meets."""
    name, stem = ".".join(Path(file).with_suffix("").parts), Path(file).stem
    named = re.compile(rf"from {re.escape(name)} import|from {re.escape(name.rpartition('.')[0])} import .*\b{stem}\b")
    tests = sorted(f for f in (ROOT / "tests").rglob("test_*.py") if named.search(f.read_text()))
    return [f.relative_to(ROOT).as_posix() for f in tests if "integration" not in f.parts]


class Core:
    """The compiled core of a copy of the checkout, built in pieces."""

    def __init__(self, home: Path):
        self.home, self.objects = home, home / "objects"
        self.objects.mkdir(exist_ok=True)
        self.include = [f"-I{home}/cython_ext/core", f"-I{sysconfig.get_path('include')}", f"-I{numpy_include()}"]
        self.suffix = sysconfig.get_config_var("EXT_SUFFIX")
        self.extensions = {name: home / "mlpot" / "_ext" / f"{name}{self.suffix}" for name in ("core", "pair_gradients")}
        for name in self.extensions:
            directives = "boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True"
            command = [sys.executable, "-m", "cython", "-3", "-X", directives, f"{name}.pyx", "-o", str(self.objects / f"{name}.c")]
            subprocess.run(command, cwd=home / "cython_ext", check=True)

    def sources(self, extension: str) -> list[Path]:
        wrapper = [self.objects / f"{extension}.c"]
        return wrapper + (sorted((self.home / "cython_ext/core").glob("*.c")) if extension == "core" else [])

    def build(self, every_set: bool, changed: Path | None = None) -> bool:
        """Compile everything, or only what depends on a changed file, and link; whether the compiler took it."""
        whole, fresh = (self.objects / f"{name}-{'three' if every_set else 'one'}" for name in ("whole", "changed"))
        for folder in (whole, fresh):
            folder.mkdir(exist_ok=True)
        for extension, library in self.extensions.items():
            objects = []
            for source in self.sources(extension):
                name = f"{extension}-{source.stem}.o"
                is_changed = changed is not None and changed in self.made_of(whole / name)
                objects.append(str((fresh if is_changed else whole) / name))
                if is_changed or changed is None:
                    flags = FLAGS + ([] if every_set else ONE_SET)
                    command = ["gcc", *flags, *self.include, "-MMD", "-c", str(source), "-o", objects[-1]]
                    if subprocess.run(command, capture_output=True).returncode:
                        return False
            if subprocess.run(["gcc", "-shared", "-fopenmp", *objects, "-lm", "-o", f"{library}.new"]).returncode:
                return False
            Path(f"{library}.new").replace(library)
        return True

    @staticmethod
    def made_of(target: Path) -> list[Path]:
        """Files of an object, from the compiler."""
        return [Path(word) for word in target.with_suffix(".d").read_text().replace("\\\n", " ").split()[1:]]


def numpy_include() -> str:
    import numpy

    return numpy.get_include()


def core_tests(mutant: Mutant) -> list[str]:
    name = Path(mutant.file).stem
    own = next((tests for start, tests in CORE_TESTS.items() if name.startswith(start)), [])
    return list(dict.fromkeys(own + ALL_OF_THE_CORE))


def run_tests(home: Path, tests: list[str], limit: float) -> int:
    """Exit status of pytest; -1 where time has run out."""

    def work() -> int:
        import pytest

        enter(home)
        return pytest.main(["-q", "-x", "-p", "no:xdist", "-m", "not slow", *tests])

    return in_child(work, limit)


class Judge:
    """Applies mutants to a copy of the checkout."""

    def __init__(self, home: Path, tests: TestMap | None, limit: float):
        self.home, self.map, self.limit = home, tests, limit
        self.core: Core | None = None
        self.cores: set[bool] = set()

    def verdict(self, mutant: Mutant) -> str:
        """caught, time-out (which counts as caught), SURVIVED, unmet (no test meets the line) or invalid (no program)."""
        file = self.home / mutant.file
        is_python, original = file.suffix == ".py", file.read_text()
        every_set = file.name in DIFFERENT or "MLPOT_LANES" in mutant.text
        if not is_python and every_set not in self.cores:
            self.core = self.core or Core(self.home)
            if not self.core.build(every_set):
                raise SystemExit("the unchanged core cannot be compiled")
            self.cores.add(every_set)
        file.write_text(mutant.of(original))
        try:
            if is_python:
                tests = self.map.tests(mutant)
                if not tests:
                    return "unmet"
            else:
                tests = core_tests(mutant)
                if not self.core.build(every_set, file):
                    return "invalid"
            status = run_tests(self.home, tests, self.limit)
            if status in (4, 5):
                raise SystemExit(f"no tests were run for {mutant}: {tests[:3]}")
            return "SURVIVED" if status == 0 else "time-out" if status == -1 else "caught"
        finally:
            file.write_text(original)


def copied(folder: Path) -> Path:
    """A copy of the checkout, with the reference data beside it."""
    home = folder / "checkout"
    home.mkdir()
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy2)(ROOT / part, home / part)
    if (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=60, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=400.0, help="seconds for the tests of one")
    parser.add_argument("--only", nargs="+", default=["mlpot/models"], metavar="FOLDER", help="where from")
    parser.add_argument("--map", type=Path, default=ROOT / "build" / "test_map.json")
    parser.add_argument("--journal", type=Path, default=ROOT / "benchmarks" / "mutants.jsonl")
    parser.add_argument("--again", action="store_true", help="mutants of the journal that are not caught or explained yet")
    parser.add_argument("--change", nargs=3, metavar=("FILE", "BEFORE", "AFTER"), help="the first place of a text")
    options = parser.parse_args()
    past = [json.loads(line) for line in options.journal.read_text().splitlines()] if options.journal.exists() else []
    known = {key(record): record["verdict"] for record in past}
    if options.change:
        drawn, known = [given(*options.change)], {}
    elif options.again:
        alive = {k for k, verdict in known.items() if verdict not in ("caught", "time-out", "invalid", "explained")}
        everything = all_mutants(ROOT, sorted({file for file, *_ in alive}))
        drawn, known = [m for m in everything if key(asdict(m)) in alive], {}
        random.Random(options.seed).shuffle(drawn)
    else:
        everything = all_mutants(ROOT, options.only)
        drawn = random.Random(options.seed).sample(everything, min(options.n, len(everything)))
    drawn.sort(key=lambda mutant: not mutant.file.endswith(".py"))  # the core of the copy stays a mutant
    preload()
    with tempfile.TemporaryDirectory() as folder, options.journal.open("a") as journal:
        home = copied(Path(folder))
        judge = Judge(home, TestMap(options.map) if any(m.file.endswith(".py") for m in drawn) else None, options.limit)
        for k, mutant in enumerate(drawn, 1):
            if key(asdict(mutant)) in known:
                continue
            start = time.monotonic()
            verdict = judge.verdict(mutant)
            print(f"{k:3d} {time.monotonic() - start:5.1f} s  {verdict:8s} {mutant.file}:{mutant.line} {mutant.what}", flush=True)
            journal.write(json.dumps({"verdict": verdict, "seed": options.seed, **asdict(mutant)}) + "\n")
            journal.flush()


def given(file: str, before: str, after: str) -> Mutant:
    """A mutant by its texts."""
    source = (ROOT / file).read_text()
    start = source.index(before)
    line = source.count("\n", 0, start) + 1
    code = source.split("\n")[line - 1]
    return Mutant(file, line, 0, code.strip(), start, start + len(before), after, f"`{one_line(before)}` -> `{one_line(after)}`")


def key(record: dict) -> tuple:
    """A mutant by its file and what it changes, which stay when lines above move."""
    return record["file"], record["code"], record["column"], record["what"]


if __name__ == "__main__":
    main()
