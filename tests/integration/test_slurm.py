"""Labels through a real Slurm whose jobs are cancelled while they compute: all of them arrive, each once."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import slurm
from labelling import FAULTY, LJ, crystal

from mlpot.errors import ConfigError, LabelError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.labellers.faulty import calls, fingerprint
from mlpot.labels.plan import LabellingPlan, labeller_of
from mlpot.labels.requests import LabelSource
from mlpot.labels.store import LabelStore
from mlpot.learning.run_folder import RunFolder, opened_source
from mlpot.workers import job_watch
from mlpot.workers.local import SubprocessExecutor

N_LABELS, N_JOBS = 8, 3


def _wait_for(condition, source, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        for key in source.pending:
            source.outcome(key)
        time.sleep(0.2)


def _plan(calls_file, seconds, workers, **more):
    return LabellingPlan(
        calculator=FAULTY,
        parameters={"calls_file": str(calls_file), "seconds": seconds},
        timeout_s=60.0,
        executor="slurm",
        workers=workers,
        slurm={"queue": "main", "memory": "500MB", "walltime": "00:05:00", "death_timeout": 30, **more},
    )


@pytest.mark.slow
def test_every_job_is_cancelled_and_all_labels_arrive(tmp_path, cluster):
    calls_file = tmp_path / "calls.txt"
    plan = _plan(calls_file, 2.0, N_JOBS)
    structures = [crystal(seed) for seed in range(N_LABELS)]
    with opened_source(plan, tmp_path / "run", resume=False) as (_, source):
        keys = [source.request(atoms) for atoms in structures]
        assert source.pending == keys
        _wait_for(lambda: len(calls(calls_file, "start")) >= 2, source)
        first = slurm.jobs(cluster)
        for job in first:
            slurm.cancel(cluster, job)
        outcomes = [source.wait(key) for key in keys]
        assert not source.pending
        rows = source.store.rows()
    assert len(first) >= 2
    assert len(calls(calls_file, "start")) > N_LABELS  # what was cancelled had begun
    assert sorted(row.label_key for row in rows) == sorted(keys)
    assert Counter(calls(calls_file, "end")) == {fingerprint(atoms): 1 for atoms in structures}
    for atoms, outcome in zip(structures, outcomes, strict=True):
        expected = CalculatorLabeller(LJ).label(atoms)
        np.testing.assert_array_equal(outcome.atoms.get_forces(), expected.forces)
        assert outcome.paid
    assert not list((tmp_path / "run" / "inbox").iterdir())
    _wait_for(lambda: not slurm.jobs(cluster, ""), source, 20.0)


SIMULATION = """
import sys
sys.path.insert(0, sys.argv[1])
from test_slurm import _plan, crystal, opened_source
with opened_source(_plan(sys.argv[2], 8.0, 1), sys.argv[3], resume=False) as (_, source):
    source.obtain(crystal())
"""


@pytest.mark.slow
def test_a_label_outlives_the_simulation_and_is_found_again(tmp_path, cluster):
    """The job stays until the label is delivered, though the Dask worker in it has lost its scheduler."""
    calls_file, run = tmp_path / "calls.txt", tmp_path / "run"
    command = [sys.executable, "-c", SIMULATION, str(Path(__file__).parent), str(calls_file), str(run)]
    environment = {**cluster, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as simulation:
        end = time.monotonic() + 40
        while not calls(calls_file, "start"):
            assert time.monotonic() < end
            time.sleep(0.1)
        simulation.kill()
    labeller = labeller_of(_plan(calls_file, 8.0, 1))
    with RunFolder(run, resume=True), SubprocessExecutor() as executor:
        outcome = LabelSource(labeller, LabelStore(run), executor).obtain(crystal())
    assert outcome.atoms is not None
    assert not outcome.paid
    assert calls(calls_file, "start") == calls(calls_file, "end") == [fingerprint(crystal())]


@pytest.mark.slow
def test_a_job_that_slurm_would_not_take_is_known_at_the_start(tmp_path, cluster):
    plan = LabellingPlan(LJ, executor="slurm", slurm={"queue": "nowhere", "memory": "500MB"})
    with pytest.raises(ConfigError, match=r"labeller\.slurm[\s\S]*nowhere[\s\S]*partition"):
        with opened_source(plan, tmp_path / "run", resume=False):
            pass


FLAKY = """#!/bin/bash
if [ "$1" != --test-only ]; then
    echo x >> {folder}/tries
    [ $(wc -l < {folder}/tries) -le 2 ] && exit 1
fi
exec {sbatch} "$@"
"""


@pytest.mark.slow
def test_a_queue_that_is_down_for_a_moment_holds_up_nobody(tmp_path, cluster, monkeypatch):
    """Dask does not submit a job again that the queue has not taken."""
    monkeypatch.setattr(job_watch, "LOOK_SECONDS", 1.0)
    script = tmp_path / "sbatch"
    script.write_text(FLAKY.format(folder=tmp_path, sbatch=shutil.which("sbatch")))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with opened_source(_plan(tmp_path / "calls", 0.0, 1), tmp_path / "run", resume=False) as (_, source):
        assert source.obtain(crystal()).atoms is not None
    assert len((tmp_path / "tries").read_text().split()) >= 3


@pytest.mark.slow
def test_jobs_that_only_end_are_given_up(tmp_path, cluster, monkeypatch, caplog):
    """Their prologue fails: the run stops and says so, and the label can be asked for again."""
    monkeypatch.setattr(job_watch, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(job_watch, "MOST_LOST", 1)
    plan = _plan(tmp_path / "calls", 0.0, 1, job_script_prologue=["exit 1"])
    with (
        pytest.raises(LabelError, match=r"2 jobs ended before their worker connected; see what they wrote in the folder jobs"),
        opened_source(plan, tmp_path / "run", resume=False) as (_, source),
    ):
        source.obtain(crystal())
    assert "2 jobs ended before their worker connected" in caplog.text
    assert not list((tmp_path / "run" / "failed").glob("*.json"))
