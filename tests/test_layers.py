"""The house: imports point down, only some rooms touch the disk or print, files and functions stay small."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from mlpot.terms.feature_compiled import CompiledFeatureTerm
from mlpot.terms.mapped_compiled import CompiledMappedTerm
from mlpot.terms.pair_compiled import CompiledPairTerm
from mlpot.terms.registry import TERM_TYPES
from mlpot.terms.soap_compiled import CompiledSoapTerm
from mlpot.terms.three_body_compiled import CompiledThreeBodyTerm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mlpot"
LAYERS = [
    ("errors", "units", "durable", "processes", "threads", "import_paths", "keys"),
    ("_ext",),
    ("data", "structures", "structure_encoding", "neighbours"),
    ("descriptors",),
    ("settings",),
    ("terms",),
    ("uncertainty",),
    ("models",),
    ("fitting",),
    ("checks", "term_checks", "interop", "drivers", "labellers"),
    ("workers",),
    ("labels",),
    ("learning",),
    ("report",),
    ("tuning",),
    ("analysis",),
    ("sklearn",),
    ("lammps",),
    ("config",),
    ("bench", "bench_peers", "commands", "__main__"),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))
COMPILED_USERS = {"descriptors", "neighbours", "terms", "uncertainty"}
DISK_USERS = {
    "durable", "processes", "structures", "data/formats", "data/h5", "models/sparse_gp", "labels/store", "learning/run_folder",
    "learning/runner", "learning/calculator", "learning/run_environment", "labels/inbox", "labels/claims", "labellers/scratch",
    "workers/local", "labellers/faulty", "workers/worker", "labellers/calculator", "labellers/failures",
    "labellers/espresso", "labellers/espresso_density", "labellers/espresso_input", "labellers/last_words",
    "drivers/ase", "config", "commands/analysis", "commands/main", "commands/fit", "commands/study", "commands/template",
    "analysis/chemiscope_page", "commands/spectrum", "commands/distil", "commands/tune", "bench_peers", "interop/quip_text",
    "lammps/build", "lammps/simulation", "learning/event_files",
}  # fmt: skip


def name_of(file):
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


@cache
def tree(file):
    return ast.parse(file.read_text())


def nodes(file, *kinds):
    return (node for node in ast.walk(tree(file)) if isinstance(node, kinds))


def imports(file):
    """Top-level rooms of mlpot that a module imports, wherever in it."""
    parts = file.relative_to(PACKAGE).parts
    for node in nodes(file, ast.ImportFrom, ast.Import):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[: len(parts) - node.level])
            target = base + (node.module or "").split(".") if node.module else base
            target = [part for part in target if part]
            if target:
                yield target[0]
            else:
                yield from (alias.name for alias in node.names)
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name.split(".")[1] for name in names if name and name.startswith("mlpot."))


def test_imports_point_down():
    for file in MODULES:
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in imports(file) if room != "__init__" else ():
            assert other not in RANK or RANK[other] <= RANK[room], f"{name_of(file)} imports {other}"
            assert other != "_ext" or room in COMPILED_USERS, f"{name_of(file)} imports {other}"


def modules_of(node, parts, known):
    """Modules of mlpot that an import names."""
    if not node.level:
        return set()
    base = parts[: len(parts) - node.level]
    target = ".".join([*base, *([node.module] if node.module else [])])
    names = [target, *(f"{target}.{alias.name}" if target else alias.name for alias in node.names)]
    return {name for name in names if name in known}


def test_no_imports_in_circles():
    """Wherever they stand: at the top, in functions, for types alone."""
    known = {name_of(file).replace("/", "."): file for file in MODULES}
    below = {
        name: {
            other
            for node in nodes(file, ast.ImportFrom)
            for other in modules_of(node, name.split("."), known)
        } - {name}
        for name, file in known.items()
    }  # fmt: skip
    while free := [name for name, others in below.items() if not others]:
        for name in free:
            del below[name]
        below = {name: others - set(free) for name, others in below.items()}
    assert not below, sorted(below)


def classes_of_terms():
    """Concrete terms, what they are compiled to, their settings and their headers, with the module each is of."""
    kinds = [kind for entry in TERM_TYPES.values() for kind in (entry.term, entry.settings, entry.term.header_type) if kind]
    compiled = [CompiledSoapTerm, CompiledPairTerm, CompiledThreeBodyTerm, CompiledFeatureTerm, CompiledMappedTerm]
    return {kind.__name__: kind.__module__ for kind in [*kinds, *compiled]}


def test_nobody_asks_which_term_it_is():
    """Questions are for the term's own methods, so that a new kind of term is a module of its own and a line in the registry."""
    home = classes_of_terms()
    for file in MODULES:
        for call in nodes(file, ast.Call):
            if getattr(call.func, "id", "") in ("isinstance", "issubclass"):
                asked = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(call.args[1])}
                strange = {name for name in asked & set(home) if home[name] != "mlpot." + name_of(file).replace("/", ".")}
                assert not strange, f"{name_of(file)}:{call.lineno} asks for {strange}"


def test_only_the_command_line_prints():
    for file in MODULES:
        printed = [call.lineno for call in nodes(file, ast.Call) if getattr(call.func, "id", "") == "print"]
        assert not printed or name_of(file) == "commands/main", f"{name_of(file)} prints in lines {printed}"


def test_only_some_rooms_touch_the_disk():
    names = {"open", "write_text", "write_bytes", "unlink", "mkdir", "savefig"}
    for file in MODULES:
        if not name_of(file).startswith("report/") and name_of(file) not in DISK_USERS:
            called = {getattr(call.func, "id", getattr(call.func, "attr", "")) for call in nodes(file, ast.Call)}
            assert not called & names, f"{name_of(file)} calls {called & names}"


def test_the_core_is_plain_c():
    for file in (ROOT / "cython_ext" / "core").glob("*.[ch]"):
        assert "Python.h" not in file.read_text()


def tracked(*patterns):
    try:
        listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines()]


def test_files_and_functions_stay_small():
    for file in tracked("*.py", "*.pyx", "*.pxd", "*.c", "*.h"):
        assert len(file.read_text().splitlines()) <= 400, file
    for file in tracked("mlpot/*.py", "tests/*.py", "examples/*.py", "benchmarks/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 56, f"{file}: {node.name}"


def test_data_files_stay_small():
    """What the tests need they make; what the repository ships is small."""
    sizes = {
        file: file.stat().st_size for file in tracked("*.xyz", "*.csv", "*.json", "*.h5", "*.npz", "*.db", "*.xml")
    }
    assert sum(sizes.values()) < 200_000, sizes


def test_no_folder_of_tests_hides_a_package():
    """The folder `tests` is on the path: a package that is not installed would be found there, and its tests not skipped."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"].values()
    packages = {re.split(r"[\[<>=~!; ]", requirement)[0].replace("-", "_") for extra in extras for requirement in extra}
    assert "lammps" in packages
    assert not packages & {folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir()}
