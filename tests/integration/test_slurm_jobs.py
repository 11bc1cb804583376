"""Through a real Slurm: labels of two MPI processes, several labels in a job, jobs that cannot start, runs that are asked to end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm
from labelling import FAULTY, crystal

from mlpot.errors import LabelError
from mlpot.labellers.faulty import calls, notes
from mlpot.labels.plan import LabellingPlan
from mlpot.labels.store import LabelStore
from mlpot.learning.deadline import GO_ON
from mlpot.learning.run_folder import opened_source, read_state
from mlpot.workers import job_watch

PSEUDO = Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF")
ROOT = Path(__file__).resolve().parents[2]


def jobs_of(**more):
    return {"queue": "main", "memory": "500MB", "walltime": "00:05:00", "death_timeout": 30, **more}


RUN = """
[structure]
file = "{root}/inputs/si8.xyz"
[dynamics]
temperature_K = 300
timestep_fs = 2.0
steps = 20
[labeller]
calculator = "mlpot.labellers.espresso:espresso"
timeout_s = 300
executor = "slurm"
workers = 1
[labeller.slurm]
queue = "main"
memory = "500MB"
walltime = "00:10:00"
tasks = 2
launcher = "/usr/bin/mpirun -np {{tasks}}"
job_script_prologue = ["export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1"]
[labeller.parameters]
command = "{{launcher}} {pw}"
pseudo_dir = "{pseudo}"
pseudopotentials = {{ Si = "{file}" }}
kpts = [1, 1, 1]
koffset = [1, 1, 1]
input_data = {{ ecutwfc = 12, conv_thr = 1e-7 }}
[learning]
check_interval = "off"
[model]
preset = "fast"
cutoff = 4.0
[output]
folder = "run"
"""

SPY = """#!/bin/sh
[ "$OMPI_COMM_WORLD_RANK" = 0 ] && echo $OMPI_COMM_WORLD_SIZE >> {ranks}
exec {pw} "$@"
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pw.x") is None or shutil.which("mpirun", path="/usr/bin") is None or not PSEUDO.exists(),
    reason="pw.x, its pseudopotentials or OpenMPI are missing: apt-get install quantum-espresso quantum-espresso-data",
)
def test_a_learning_run_with_two_mpi_processes_a_label(tmp_path, cluster):
    """OpenMPI says how many processes it has started; it is that of the system, wherever another mpirun may be on PATH."""
    spy = tmp_path / "pw"
    spy.write_text(SPY.format(ranks=tmp_path / "ranks", pw=shutil.which("pw.x")))
    spy.chmod(0o755)
    text = RUN.format(root=ROOT, pw=spy, pseudo=PSEUDO.parent, file=PSEUDO.name)
    (tmp_path / "run.toml").write_text(text)
    environment = {**cluster, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "mlpot", "learn", "run.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    n_labels = len(LabelStore(tmp_path / "run"))
    assert n_labels >= 2
    assert (tmp_path / "ranks").read_text().split() == ["2"] * n_labels
    assert read_state(tmp_path / "run")["status"] == "finished"


@pytest.mark.slow
def test_labels_share_a_job(tmp_path, cluster):
    plan = LabellingPlan(
        FAULTY, {"calls_file": str(tmp_path / "calls"), "seconds": 3.0}, timeout_s=60.0, executor="slurm", workers=2,
        slurm=jobs_of(labels_per_job=2),
    )  # fmt: skip
    most = 0
    with opened_source(plan, tmp_path / "run", resume=False) as (_, source):
        keys = [source.request(crystal(seed)) for seed in range(4)]
        while source.pending:
            most = max(most, len(slurm.jobs(cluster, "")))
            for key in keys:
                source.outcome(key)
            time.sleep(0.2)
        assert len(source.store.rows()) == 4
    assert most == 1
    times = [(note.event, note.time) for note in notes(tmp_path / "calls")]
    starts, ends = ([when for event, when in times if event == kind] for kind in ("start", "end"))
    assert sorted(starts)[1] < min(ends)  # two at a time


@pytest.mark.slow
def test_a_job_that_cannot_start_is_told_and_given_up(tmp_path, cluster, monkeypatch, caplog):
    monkeypatch.setattr(job_watch, "LOOK_SECONDS", 1.0)
    plan = LabellingPlan(FAULTY, executor="slurm", slurm=jobs_of(queue="short"))
    reason = r"Partition(TimeLimit|Config); change labeller\.slurm\.walltime"
    with (
        pytest.raises(LabelError, match=rf"no job can start: {reason}.*; continue with --resume"),
        opened_source(plan, tmp_path / "run", resume=False) as (_, source),
    ):
        source.obtain(crystal())
    assert re.search(rf"cannot start: {reason}", caplog.text)


SIMULATION = """
[structure]
file = "{root}/inputs/si8.xyz"
[dynamics]
steps = 20
[labeller]
calculator = "{faulty}"
parameters = {{ calls_file = "{calls}", seconds = 600.0 }}
executor = "slurm"
slurm = {{ queue = "{queue}", memory = "500MB", walltime = "00:05:00" }}
[output]
folder = "run"
"""


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["main", "short"])
def test_jobs_are_cancelled_when_the_run_is_asked_to_end(tmp_path, cluster, queue):
    """One that runs, and one that waits in the queue."""
    text = SIMULATION.format(root=ROOT, faulty=FAULTY, calls=tmp_path / "calls", queue=queue)
    (tmp_path / "run.toml").write_text(text)
    environment = {**cluster, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "mlpot", "learn", "run.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as run:
        end = time.monotonic() + 90
        while not (calls(tmp_path / "calls", "start") if queue == "main" else slurm.jobs(cluster, "PD")):
            assert time.monotonic() < end and run.poll() is None
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == GO_ON, said
    end = time.monotonic() + 20
    while slurm.jobs(cluster, ""):
        assert time.monotonic() < end
        time.sleep(0.2)
