"""Random mutants: an operator, comparison or number of the package is changed, and the tests that know the module must notice.

    python benchmarks/mutants.py -n 60 --seed 0 --only mlpot/models          # Python
    python benchmarks/mutants.py -n 20 --only cython_ext/core                # C: extensions are built anew for each

Everything happens in a copy of the checkout. A mutant is caught when a test fails, or takes longer than the limit. What survives is
printed with its line: a test is missing there, or the change has no effect that anybody could see.
Run the tests first: one that fails anyway makes all mutants of the modules it names look caught.
"""

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("mlpot", "cython_ext", "tests", "inputs", "setup.py", "pyproject.toml", "README.md", "LICENSE")
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}  # fmt: skip
C_CHANGES = {" + ": " - ", " - ": " + ", " * ": " / ", " += ": " -= ", " < ": " <= ", " > ": " >= ", " == ": " != "}
EVERYWHERE = ("tests/contract/test_model.py", "tests/contract/test_compiled.py")
"""Tests that meet most modules without naming them."""
CORE = ("tests/kernels", "tests/core/test_core_model.py", "tests/contract/test_compiled.py")


def python_mutant(file: Path, rng: random.Random) -> tuple[int, str, str] | None:
    """Line, what was changed, and the whole text of one mutant of a module; None where there is nothing to change."""
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree))
    for node in rng.sample(nodes, len(nodes)):
        if change := changed(node):
            return getattr(node, "lineno", 0), change, ast.unparse(tree)
    return None


def changed(node: ast.AST) -> str:
    """Change a node in place; in words, empty where there is nothing to change."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        before, node.op = node.op, OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        before, node.ops[0] = node.ops[0], COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        before, node.value = node.value, node.value + 1 if isinstance(node.value, int) else node.value * 1.1 + 1e-3
    else:
        return ""
    return f"{before if isinstance(before, int | float) else type(before).__name__} in `{ast.unparse(node)[:70]}`"


def c_mutant(file: Path, rng: random.Random) -> tuple[int, str, str] | None:
    """Likewise of C; comments and includes stay."""
    lines = file.read_text().split("\n")
    for k, line in rng.sample(list(enumerate(lines)), len(lines)):
        if re.match(r"\s*(#|/?\*|//)", line):
            continue
        for before, after in rng.sample(list(C_CHANGES.items()), len(C_CHANGES)):
            if before in line:
                mutant = line.replace(before, after, 1)
                return k + 1, f"`{mutant.strip()[:70]}`", "\n".join([*lines[:k], mutant, *lines[k + 1 :]])
    return None


def drawn(only: list[str], n: int, seed: int) -> list[tuple[Path, int, str, str]]:
    """As many mutants, of files by their size and then of any of their places."""
    rng = random.Random(seed)
    files = sorted(f for part in only for f in (ROOT / part).rglob("*") if f.suffix in (".py", ".h", ".c"))
    found = []
    for file in rng.choices(files, [f.stat().st_size for f in files], k=n):
        mutant = python_mutant(file, rng) if file.suffix == ".py" else c_mutant(file, rng)
        if mutant is not None:
            found.append((file.relative_to(ROOT), *mutant))
    return found


def concerned(file: Path) -> list[str]:
    """Tests of a module: those that name it, and those that everything passes through."""
    if file.suffix != ".py":
        return list(CORE)
    name = ".".join(file.with_suffix("").parts[1:])
    named = re.compile(rf"mlpot\.{re.escape(name)}\b|from mlpot\.{re.escape(name.rpartition('.')[0])} import .*\b{file.stem}\b")
    tests = sorted(f for f in (ROOT / "tests").rglob("test_*.py") if named.search(f.read_text()))
    return [f.relative_to(ROOT).as_posix() for f in tests if "integration" not in f.parts] + list(EVERYWHERE)


def is_caught(home: Path, file: Path, text: str, limit: float) -> bool:
    """Whether the tests of a mutant fail in the copy."""
    original, environment = (home / file).read_text(), {**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    (home / file).write_text(text)
    try:
        if file.suffix != ".py":
            command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--build-temp", "objects"]
            if subprocess.run(command, cwd=home, env=environment, capture_output=True).returncode:
                return True
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-m", "not slow", *concerned(file)]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, timeout=limit).returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        (home / file).write_text(original)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=60, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for the tests of one")
    parser.add_argument("--only", nargs="+", default=["mlpot/models"], metavar="FOLDER", help="where from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, n_caught = Path(folder), 0
        for part in PARTS:
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, home / part)
        mutants = drawn(options.only, options.n, options.seed)
        for k, (file, line, change, text) in enumerate(mutants, 1):
            caught = is_caught(home, file, text, options.limit)
            n_caught += caught
            print(f"{n_caught}/{k} {'caught  ' if caught else 'SURVIVED'} {file}:{line} {change}", flush=True)
    print(f"caught: {n_caught} of {len(mutants)}, {n_caught / max(len(mutants), 1):.0%}")


if __name__ == "__main__":
    main()
