"""What the system refuses is one line, and a run goes on with --resume where labels and state are whole."""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys

import ase.io
import pytest
from conftest import FAULTY, faulty_parameters, make_frames
from learning_runs import crystal
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.errors import RunFolderError, system_trouble
from mlpot.labellers.faulty import calls
from mlpot.labels.store import LabelStore
from mlpot.learning.run_folder import read_state, sealed, unsealed
from mlpot.report import html

FIT = """
[data]
train = "train.xyz"
[model]
preset = "fast"
cutoff = 3.5
[output]
model = "model.h5"
report = "report.html"
"""
LEARN = """
[structure]
file = "start.xyz"
[dynamics]
temperature_K = 100
steps = {steps}
[labeller]
calculator = "{calculator}"
parameters = {{ calls_file = "{calls}", parameters = {{ sigma = 2.2, epsilon = 0.3, rc = 4.0, smooth = true }} }}
[model]
preset = "fast"
cutoff = 3.5
[output]
folder = "run"
"""


def mlpot(folder, *words, limit=None, value=0):
    """Exit code and all that was said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    limited = None if limit is None else lambda: resource.setrlimit(limit, (value, value))
    command = [sys.executable, "-m", "mlpot", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limited
    )
    return done.returncode, done.stdout + done.stderr


def mlpot_here(folder, *words):
    """As `mlpot`, without the start of a process."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def work(tmp_path):
    ase.io.write(tmp_path / "train.xyz", make_frames(4), format="extxyz")
    ase.io.write(tmp_path / "start.xyz", crystal())
    (tmp_path / "fit.toml").write_text(FIT)
    write_learn(tmp_path, 4)
    return tmp_path


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run of four steps that has ended, and the place of its copies: its configuration names a file there."""
    folder = tmp_path_factory.mktemp("finished")
    place, whole = folder / "work", folder / "whole"
    place.mkdir()
    ase.io.write(place / "start.xyz", crystal())
    write_learn(place, 4)
    assert mlpot(place, "learn", "learn.toml")[0] == 0
    place.rename(whole)
    return whole, place


@pytest.fixture
def finished(original):
    """A copy of the run, to be damaged."""
    whole, place = original
    shutil.copytree(whole, place)
    yield place
    shutil.rmtree(place)


def write_learn(folder, steps):
    assert "calls_file" in faulty_parameters("x")
    (folder / "learn.toml").write_text(LEARN.format(steps=steps, calculator=FAULTY, calls=folder / "calls"))


def is_one_line(said):
    lines = [line for line in said.splitlines() if line.startswith("mlpot: ")]
    return "Traceback" not in said and len(lines) == 1


@pytest.mark.slow
def test_a_disk_that_is_full_while_a_fit_is_written(work):
    code, said = mlpot(work, "fit", "fit.toml", limit=resource.RLIMIT_FSIZE, value=3000)
    assert code == 1 and is_one_line(said) and "model.h5: cannot be written" in said
    assert {file.name for file in work.iterdir()} == {"train.xyz", "start.xyz", "fit.toml", "learn.toml"}


def test_a_disk_that_is_full_while_a_report_is_written(work, monkeypatch):
    def full(file, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.chdir(work)
    monkeypatch.setattr(html, "write_text", full)
    result = CliRunner().invoke(app, ["fit", "fit.toml"])
    assert result.exit_code == 1
    assert "mlpot: report.html: No space left on device; make room" in result.output
    assert (work / "model.h5").exists() and not (work / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_bytes", "where"), [(1500, "inbox: a finished label is lost"), (20_000, "labels.db: cannot be used"), (90_000, "fit.h5")]
)
def test_a_run_whose_files_find_no_room_goes_on_later(work, n_bytes, where):
    """The limit of the size of a file: of the label itself, of the database, of the fit."""
    (work / "run" / "inbox").mkdir(parents=True)
    code, said = mlpot(work, "learn", "learn.toml", "--resume", limit=resource.RLIMIT_FSIZE, value=n_bytes)
    assert code == 1 and is_one_line(said) and where in said, said
    assert "make room" in said or "free disk space" in said, said
    goes_on(work)


@pytest.mark.slow
@pytest.mark.parametrize("n_files", [12, 15])
def test_a_run_with_too_few_open_files_goes_on_later(work, n_files):
    """Too few to begin; too few to start the worker of a label."""
    code, said = mlpot(work, "learn", "learn.toml", limit=resource.RLIMIT_NOFILE, value=n_files)
    assert code == 1 and is_one_line(said) and "pen files" in said and "ulimit -n" in said, said
    goes_on(work)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(work):
    run = work / "run"
    run.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", run], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code, said = mlpot(work, "learn", "learn.toml")
        assert code == 1 and is_one_line(said) and "No space left on device" in said and "free disk space" in said, said
        subprocess.run(["mount", "-o", "remount,size=50m", run], check=True)
        goes_on(work)
    finally:
        subprocess.run(["umount", "-l", run], check=True)  # this process has labels.db open


def goes_on(work):
    """To its end, without paying for what it has."""
    code, said = mlpot_here(work, "learn", "learn.toml", *(["--resume"] if (work / "run").exists() else []))
    assert code == 0, said
    assert read_state(work / "run")["walkers"][0]["dynamics"]["step"] == 4
    paid = calls(work / "calls", "end")
    assert len(set(paid)) == len(LabelStore(work / "run").rows())


@pytest.mark.slow
def test_a_torn_environment_does_not_hold_up_a_run(finished):
    text = (finished / "run" / "environment.json").read_text()
    (finished / "run" / "environment.json").write_text(text[: len(text) // 2])
    write_learn(finished, 6)
    code, said = mlpot_here(finished, "learn", "learn.toml", "--resume")
    assert code == 0 and "Traceback" not in said, said
    assert len(json.loads((finished / "run" / "environment.json").read_text())) == 1
    assert (finished / "run" / "environment.json.unreadable").read_text() == text[: len(text) // 2]
    assert read_state(finished / "run")["walkers"][0]["dynamics"]["step"] == 6


@pytest.mark.slow
def test_a_wrong_cell_of_the_log_is_one_line(finished):
    log = finished / "run" / "log.csv"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:-1], "x" + lines[-1][1:]]))
    code, said = mlpot_here(finished, "report", "run")
    assert code == 1 and is_one_line(said) and "log.csv: cannot be read" in said


@pytest.mark.slow
def test_a_wrong_cell_of_the_labels_is_one_line(finished):
    import sqlite3

    with sqlite3.connect(finished / "run" / "labels.db") as database:
        database.execute("UPDATE systems SET forces = ? WHERE id = 1", (b"\xff" * 48,))
    write_learn(finished, 6)
    for words in (("learn", "learn.toml", "--resume"), ("report", "run")):
        code, said = mlpot_here(finished, *words)
        assert code == 1 and is_one_line(said) and "labels.db: cannot be read" in said, said
    with pytest.raises(RunFolderError, match=r"labels\.db: cannot be read: .*restore it from a backup"):
        LabelStore(finished / "run").rows()


@pytest.mark.slow
def test_a_state_that_lacks_something_is_one_line(finished):
    state = unsealed((finished / "run" / "state.json").read_text())
    for broken in ({**state, "walkers": [{}]}, {k: v for k, v in state.items() if k != "campaign"}, {**state, "files": 3}, {}):
        (finished / "run" / "state.json").write_text(sealed(broken))
        code, said = mlpot_here(finished, "learn", "learn.toml", "--resume")
        assert code == 1 and is_one_line(said) and "state.json" in said, said
    (finished / "run" / "state.json").unlink()
    code, said = mlpot_here(finished, "learn", "learn.toml", "--resume")
    assert code == 0, said


@pytest.mark.slow
def test_another_number_in_the_state_is_one_line(finished):
    text = (finished / "run" / "state.json").read_text()
    (finished / "run" / "state.json").write_text(text.replace('"step": 4', '"step": 3', 1))
    write_learn(finished, 6)
    code, said = mlpot_here(finished, "learn", "learn.toml", "--resume")
    assert code == 1 and is_one_line(said) and "state.json: cannot be read: its content has changed" in said, said
    assert "delete it and continue with --resume" in said
    (finished / "run" / "state.json").unlink()
    code, said = mlpot_here(finished, "learn", "learn.toml", "--resume")
    assert code == 0 and read_state(finished / "run")["walkers"][0]["dynamics"]["step"] == 6, said
    paid = calls(finished / "calls", "start")
    assert len(set(paid)) == len(paid)  # labels that were paid for are not paid again


def test_the_remedy_is_told():
    assert system_trouble(OSError(28, "No space left on device", "a\x1b")) == (
        r"a\x1b: No space left on device; make room and do it again, a run with --resume"
    )
    assert "ulimit -n" in system_trouble(OSError(24, "Too many open files"))
    assert "out of memory" in system_trouble(MemoryError())
