"""The documentation is true: every block of code on every page runs, or says on the page why it does not."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from ase.build import bulk
from ase.io import read, write
from conftest import rattled_copper
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app
from mlpot.config import read_config
from mlpot.models.prediction import Prediction
from mlpot.settings.files import DataFile, DriverFile, LearnFile

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NOT_RUN = "not run by the tests: "
SLOW = {"howto/learning.md", "howto/labels.md", "howto/fitting.md", "howto/two_levels.md"}
"""Pages whose blocks ask an electronic-structure code, or fit many times."""
PLAIN = {"text"}
FIT = '[data]\ntrain = "labels.xyz"\n[model]\npreset = "fast"\ncutoff = 4.5\n[output]\nmodel = "cu.h5"\n'


def name_of(page):
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


def blocks(page):
    """Language, title and text of the blocks that are meant to be run."""
    found = [match.groups() for match in BLOCK.finditer(page.read_text())]
    return [(language, title or "", text) for language, title, text in found if language not in PLAIN]


def runnable(page):
    return [b for b in blocks(page) if not b[1].startswith(NOT_RUN) and "--8<--" not in b[2]]


def is_tutorial(page):
    return name_of(page).startswith("tutorials/")


RUN = [page for page in PAGES if runnable(page) and not is_tutorial(page)]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """The files that pages take as given: labelled structures, a start structure, a model, and the examples."""
    folder = tmp_path_factory.mktemp("pages")
    frames = [rattled_copper(seed) for seed in range(8)]
    write(folder / "labels.xyz", frames)
    write(folder / "start.xyz", bulk("Cu", cubic=True))
    (folder / "fit.toml").write_text(FIT)
    mlpot.fit(frames[:4], mlpot.FitConfig(preset="fast", cutoff=4.5, check_labels=False)).save(folder / "cu.h5")
    shutil.copy(folder / "cu.h5", folder / "model.h5")
    return folder


def run_commands(text):
    """Commands of mlpot in this process, which spares a second each; anything else by the shell."""
    lines = [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if all(re.fullmatch(r"mlpot [\w./ @:=-]+", line) for line in lines):
        for line in lines:
            result = CliRunner().invoke(app, line.split()[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["bash", "-e", "-c", text], check=True, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)})


def check_settings(text, title):
    """The keys of a file, or of a part of one, are accepted."""
    values = tomllib.loads(text)
    if "labels" in values.get("output", {}) or "test" in values.get("data", {}) or "model" in values.get("output", {}):
        DataFile.checked({"data": {"train": "a.xyz"}} | values, title or "block")
        return
    schema = DriverFile if "driver" in values else LearnFile
    base = {"structure": {"file": "a.xyz"}, "output": {"folder": "run"}}
    schema.checked(base | values, title or "block")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if name_of(page) in SLOW else (), id=name_of(page)) for page in RUN]
)
def test_every_block_runs(page, workspace, tmp_path, monkeypatch):
    """One after the other in one folder, so that later blocks build on earlier ones."""
    if name_of(page) in SLOW:
        pytest.importorskip("tblite", reason="tblite is not installed")
    if name_of(page) != "start.md":  # which begins with nothing
        shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    frames = [rattled_copper(seed) for seed in range(8)]
    scope = {"frames": frames, "atoms": frames[5].copy()}
    for language, title, text in runnable(page):
        if language == "python":
            exec(compile(text, name_of(page), "exec"), scope)
        elif language == "toml":
            check_settings(text, title)
            if title:
                Path(title).write_text(text)
        else:
            assert language == "bash", f"{name_of(page)}: a block in {language} is neither run nor marked as text"
            run_commands(text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_not_run_says_why(page):
    for language, title, _ in blocks(page):
        assert language in ("python", "bash", "toml"), f"{name_of(page)}: a block in {language}"
        if title.startswith(NOT_RUN):
            assert len(title) > len(NOT_RUN) + 10
        else:
            assert not title or title.endswith(".toml")
    assert page.read_text().count("```") == 2 * len(BLOCK.findall(page.read_text())), "a block with another beginning"


def commands_in(page):
    """Commands of mlpot on a page as words, in blocks of every kind, those that are not run included."""
    text = "\n".join(block for language, _, block in blocks(page) if language == "bash")
    text += "\n" + "\n".join(re.findall(r"^    (mlpot .*)", page.read_text(), flags=re.MULTILINE))
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("mlpot "):
            yield shlex.split(line.partition("  #")[0].partition(" $(")[0].partition(" > ")[0])[1:]


def test_commands_in_the_pages_exist():
    """Every `mlpot` command is one, has the options that are shown, and files of the repository that it names are there."""
    found = 0
    for page in PAGES:
        for words in commands_in(page):
            command, where = typer.main.get_command(app), f"{name_of(page)}: mlpot {' '.join(words)}"
            while words and words[0] in getattr(command, "commands", {}):
                command, words, found = command.commands[words[0]], words[1:], found + 1
            assert not hasattr(command, "commands"), f"{where}: no such command"
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
            options = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
            assert set(options) <= known, where
            assert all((ROOT / word).exists() for word in words if word.startswith(("inputs/", "examples/"))), where
    assert found > 40


def test_links_lead_somewhere():
    """Files and headings that pages of the repository link to; the site's own check is `make docs`."""
    for page in PAGES:
        text = re.sub(r'--8<-- "([^"]+)"', lambda included: (ROOT / included[1]).read_text(), page.read_text())
        for target in re.findall(r"\]\(((?!https?:|#)[^)\s]+)\)", text):
            file, _, heading = target.partition("#")
            there = (page.parent / file).resolve()
            assert there.exists(), f"{name_of(page)}: {target}"
            if heading and "--8<--" not in there.read_text():
                heads = re.findall(r"^#+ (.*)", there.read_text(), flags=re.MULTILINE)
                assert heading in {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}, target


def test_the_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 50 and [line.split()[:2] for line in lines[2:4]] == [["make", "demo"], ["make", "test"]]
    pictures = [line for line in lines if line.startswith("![")]
    assert len(pictures) == 1


def test_every_public_name_is_documented():
    """Commands are in a table that is made from them, see docs/site_hooks.py."""
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in mlpot.__all__ if name not in text and name != "__version__"] == []


@pytest.mark.parametrize(("keyed", "page"), [("| `n2p2`", "coming_from.md"), ("## GAP", "coming_from.md")])
def test_coming_from_names_real_keys(keyed, page):
    """Our keys in the tables are keys."""
    known = (DOCS / "keys.md").read_text()
    predicted = {field.name for field in fields(Prediction)}
    text = (DOCS / page).read_text()
    for row in re.findall(r"^\| [^|]* \| (.*) \|$", text, flags=re.MULTILINE):
        for key in re.findall(r"`([a-z_]+)(?: = [^`]*)?`", row):
            if "_" in key and not hasattr(mlpot, key):
                assert f"`{key}`" in known or key in predicted, key
    assert keyed.split()[-1].strip("`") in text


def test_pictures_are_small():
    pictures = sorted((DOCS / "pictures").glob("*.png"))
    assert pictures and sum(picture.stat().st_size for picture in pictures) < 200_000


@pytest.mark.slow
def test_tutorials(tmp_path, monkeypatch):
    """Each script in small, unless its page says why not: it draws its picture, and its result makes sense."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pages = [page for page in PAGES if is_tutorial(page) and page.stem != "index"]
    run = {page.stem for page in pages if not any(title.startswith(NOT_RUN) for _, title, _ in blocks(page))}
    mains = {name: runpy.run_path(str(ROOT / "examples/tutorials" / f"{name}.py"))["main"] for name in run}
    assert mains.keys() == {"alloy", "melting", "campaign", "co_on_copper"}
    errors = mains["alloy"](tmp_path / "alloy")
    assert 0 < errors["balanced"] < errors["fast"] < 0.5
    heights = mains["melting"](tmp_path / "melting", 100, 100)
    assert heights[3000] > heights[300]
    assert mains["campaign"](tmp_path / "campaign", 30) >= 2
    relative, labels = mains["co_on_copper"](tmp_path / "co_on_copper", ["fcc"])
    assert relative == {"fcc": 0.0} and labels["fcc"] >= 2
    for name in run:
        assert (tmp_path / name / f"{name}.png").stat().st_size > 3000


def invoked(words):
    """A command of mlpot in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, f"{words}\n{result.output}"


def test_the_tutorial_on_water_in_small(tmp_path, monkeypatch):
    """Inputs are made, changed and parsed, and a trajectory is analysed; it replaces i-PI and the driver."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    water = runpy.run_path(str(ROOT / "examples/tutorials/water.py"))
    steps, n_beads = 4, water["BEADS"]

    def run(command, cwd=None, check=True):
        if command[1] != "driver":
            return invoked(command[1:])
        settings = read_config(cwd / command[2], DriverFile)
        assert settings.output.interval == 2
        rng, start, frames = np.random.default_rng(0), read(water["START"]), []
        for step in range(steps):
            for bead in range(n_beads):
                frames.append(start.copy())
                frames[-1].positions += 0.05 * rng.normal(size=(len(start), 3))
                frames[-1].info.update(step=step, bead=bead)
        write(cwd / "trajectory.xyz", frames)

    def start(command, cwd, **streams):
        found = ElementTree.parse(cwd / command[1])
        assert [element.text for element in found.iter("total_steps")] == ["60"]
        assert {element.get("nbeads") for element in found.iter("initialize")} == {str(n_beads)}
        return SimpleNamespace(wait=lambda seconds: 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(subprocess, "Popen", start)
    beads, centroids = water["main"](tmp_path / "water", 60)
    assert 0.02 < beads < 0.2 and centroids < 0.7 * beads
    assert (tmp_path / "water" / "water.png").stat().st_size > 3000


@pytest.mark.slow
def test_the_tutorial_on_publishing_in_small(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(ROOT / "examples/tutorials"))
    publishing = runpy.run_path(str(ROOT / "examples/tutorials/publishing.py"))
    monkeypatch.setattr(subprocess, "run", lambda command, check: invoked(command[1:]))
    write(tmp_path / "data.xyz", [rattled_copper(seed) for seed in range(8)])
    files = publishing["main"](tmp_path / "publishing", tmp_path / "data.xyz")
    assert len(files) == 6 and all(file.stat().st_size > 100 for file in files)


FILE = re.compile(r"`([\w./*]+\.(?:py|c|h|md))`((?:, `[\w.]+`)*)")


def test_developing_names_files_and_functions_that_exist():
    """Every file on the page is there, and so are the names that follow it, as in `labels/inbox.py`, `deliver`."""
    text = (DOCS / "developing.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for file, names in FILE.findall("\n".join(tables)):
        found = [f for folder in ("", "mlpot") for f in (ROOT / folder).glob(file)]
        assert found, f"developing.md: {file} is not there"
        for name in re.findall(r"`([\w.]+)`", names):
            pattern = rf"\b(?:def|class|int|void|double|ADD_PAIR_FORCES\()\s*{name.rpartition('.')[2]}\b"
            assert re.search(pattern, found[0].read_text()), f"developing.md: {file} has no {name}"
    assert len(FILE.findall(text)) > 25
