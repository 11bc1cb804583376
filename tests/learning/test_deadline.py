"""Runs that have to end in time: the state is whole, the exit code says to go on, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from conftest import FAULTY, faulty_parameters
from learning_runs import crystal, do_run, in_processes, plan

from mlpot.config import read_config
from mlpot.errors import ConfigError
from mlpot.labellers.faulty import calls
from mlpot.learning import deadline as module
from mlpot.learning.checkpoints import RunSettings
from mlpot.learning.deadline import GO_ON, Deadline, deadline_of, end_of_job
from mlpot.learning.run_folder import read_state
from mlpot.settings.files import DriverFile, LearnFile
from mlpot.settings.learning import seconds_of

pytestmark = pytest.mark.usefixtures("labels_in_this_process")
SETTINGS = RunSettings(interval=5, checkpoint_s=0.05)


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("SLURM_JOB_END_TIME", "SLURM_JOB_ID", "PBS_JOBID", "JOB_ID", "LSB_JOBID"):
        monkeypatch.delenv(name, raising=False)


class After(Deadline):
    """Is over after so many questions."""

    def __init__(self, questions):
        super().__init__()
        self.questions = questions

    @property
    def is_over(self):
        self.questions -= 1
        return self.questions < 0


@pytest.fixture(scope="module")
def reference(labels_in_this_process, tmp_path_factory):
    """The atoms at the end of a run that nothing ended early."""
    folder = tmp_path_factory.mktemp("whole")
    status, run = do_run(folder / "run", folder / "calls", plan(30), settings=SETTINGS)
    assert status == "finished"
    return run.walkers[0].atoms


@pytest.mark.slow
@pytest.mark.parametrize("questions", [5, 12, 13, 14, 40])
def test_a_run_that_ends_in_time_goes_on_as_if_it_had_not(tmp_path, questions, reference):
    """Between steps, and while a label is waited for."""
    with in_processes():
        status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(30), settings=SETTINGS, deadline=After(questions))
    assert status == "deadline"
    assert run.walkers[0].dynamics.step < 30
    status, run = do_run(tmp_path / "run", tmp_path / "calls", plan(30), resume=True, settings=SETTINGS)
    assert status == "finished"
    np.testing.assert_array_equal(run.walkers[0].atoms.positions, reference.positions)


def test_durations():
    assert seconds_of("23:30:00") == 84600 and seconds_of("00:10") == 600 and seconds_of("2-01:00:00") == 49 * 3600
    for text in ("", "tomorrow", "1:99:00", "-1:00:00", "10"):
        with pytest.raises(ValueError, match='must be "auto", or a duration'):
            seconds_of(text)


def test_the_end_of_a_job(monkeypatch, tmp_path):
    assert end_of_job() is None and not deadline_of("auto").is_over and not deadline_of(None).is_over
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    assert not deadline_of("auto", 100).is_over
    with pytest.raises(ConfigError, match=r"no time for the run: \d+ s are left, and 2000 s are reserved for its end"):
        deadline_of("auto", 2000)
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for answer, expected in (("2030-01-01T00:00:00", True), ("N/A", False)):
        squeue.write_text(f"#!/bin/sh\necho {answer}\n")
        squeue.chmod(0o755)
        assert (end_of_job() is not None) == expected
    squeue.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ConfigError, match="Slurm does not say when job 7 ends"):
        end_of_job()
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("PBS_JOBID", "3.server")
    with pytest.raises(ConfigError, match="PBS does not say when a job ends; give a duration"):
        end_of_job()


def test_time_passes(monkeypatch):
    deadline = deadline_of("00:10:00", 60)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 539)
    assert not deadline.is_over
    monkeypatch.setattr(module.time, "time", lambda: now + 541)
    with pytest.raises(module.OutOfTime, match="deadline is near"):
        deadline.check()


RUN = """
[structure]
file = "start.xyz"
[dynamics]
temperature_K = 300
timestep_fs = 2.0
steps = {steps}
[labeller]
calculator = "{calculator}"
parameters = {parameters}
[learning]
deadline = "01:00:00"
[model]
preset = "fast"
cutoff = 3.5
[output]
folder = "run"
"""


def toml(values):
    pairs = (f"{k} = {toml(v) if isinstance(v, dict) else json.dumps(v)}" for k, v in values.items())
    return "{ " + ", ".join(pairs) + " }"


@pytest.mark.slow
@pytest.mark.parametrize("waits", [False, True])
def test_sigterm_ends_a_run_with_a_code_of_its_own(tmp_path, waits):
    """In the middle of a label that would take ten minutes, too."""
    write(tmp_path / "start.xyz", crystal())
    parameters = {**faulty_parameters(tmp_path / "calls"), "seconds": 600.0 if waits else 0.0}
    (tmp_path / "run.toml").write_text(RUN.format(steps=100_000, calculator=FAULTY, parameters=toml(parameters)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "mlpot", "learn", "run.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        log = Path(tmp_path, "run", "log.csv")
        end = time.monotonic() + 60
        while not (calls(tmp_path / "calls", "start") and (waits or (log.exists() and len(log.read_text().splitlines()) > 3))):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == GO_ON, said
    assert f"--resume goes on (exit code {GO_ON})" in said
    if not waits:
        assert read_state(tmp_path / "run")["status"] == "deadline"


def test_wrong_deadlines(tmp_path):
    text = RUN.format(steps=1, calculator=FAULTY, parameters="{}")
    (tmp_path / "run.toml").write_text(text.replace("01:00:00", "soon"))
    with pytest.raises(ConfigError, match=r"learning\.deadline = 'soon'"):
        read_config(tmp_path / "run.toml", LearnFile)
    driver = text.replace("[dynamics]\ntemperature_K = 300\ntimestep_fs = 2.0\nsteps = 1\n", '[driver]\nunix = "x"\n')
    (tmp_path / "driver.toml").write_text(driver)
    with pytest.raises(ConfigError, match=r"learning\.deadline: a driver ends when i-PI does"):
        read_config(tmp_path / "driver.toml", DriverFile)
