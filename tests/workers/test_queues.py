"""The same keys for every batch system, tested up to the script of a job."""

import os
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from ase.calculators.lj import LennardJones
from labelling import crystal

from mlpot.errors import ConfigError
from mlpot.labellers.calculator import CalculatorLabeller
from mlpot.workers import cluster
from mlpot.workers.job_watch import JobWatch
from mlpot.workers.queues import LAUNCHER, cluster_arguments

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
pytest.importorskip("cryptography", reason="cryptography is not installed")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("slurm", {"tasks": 0}, r"slurm\.tasks = 0: must be a positive integer"),
        ("slurm", {"gpus": True}, "gpus = True"),
        ("slurm", {"tasks": 3, "nodes": 2}, "nodes = 2: does not divide the 3 processes"),
        ("slurm", {"launcher": "srun\n rm"}, "launcher = "),
        ("slurm", {"labels_per_jb": 2}, "did you mean 'labels_per_job'"),
        ("pbs", {"qos": "high"}, r"pbs\.qos: PBS has no general option"),
        ("pbs", {"launcher": "srun"}, "exists in Slurm only"),
        ("sge", {"tasks": 4}, r"needs a parallel environment; add job_extra_directives = \[\"-pe NAME 4\"\]"),
        ("lsf", {"qos": "high"}, r"lsf\.qos"),
    ],
)
def test_settings_of_jobs_that_cannot_be_right_name_the_key(kind, changes, words):
    with pytest.raises(ConfigError, match=words):
        cluster_arguments(kind, {"memory": "1GB", **changes})


MPI = {"queue": "q", "memory": "8GB", "walltime": "01:00:00", "tasks": 4, "cores": 2, "labels_per_job": 2, "launcher": "mpirun"}
SCRIPTS = {
    "slurm": (
        {"nodes": 2, "gpus": 1, "qos": "high", "constraint": "amd|intel", "account": "me"},
        ["#SBATCH -p q", "#SBATCH -A me", "#SBATCH --ntasks=8", "#SBATCH --cpus-per-task=2", "#SBATCH --nodes=2",
         "#SBATCH --gpus=2", "#SBATCH --qos=high", "#SBATCH --constraint=amd|intel", "#SBATCH -t 01:00:00"],
    ),
    "pbs": (
        {"nodes": 2, "gpus": 1, "account": "me"},
        ["#PBS -q q", "#PBS -A me", "#PBS -l select=2:ncpus=8:mpiprocs=4:mem=8000MB:ngpus=1", "#PBS -l walltime=01:00:00"],
    ),
    "sge": (
        {"gpus": 1, "job_extra_directives": ["-pe mpi 16"]},
        ["#$ -q q", "#$ -pe mpi 16", "#$ -l gpu=2", "#$ -l h_rt=01:00:00"],
    ),
    "lsf": (
        {"nodes": 2, "gpus": 1, "constraint": "amd"},
        ["#BSUB -q q", "#BSUB -n 16", '#BSUB -R "span[ptile=8]"', '#BSUB -gpu "num=2"', '#BSUB -R "select[amd]"',
         "#BSUB -W 01:00:00"],
    ),
}  # fmt: skip


@pytest.fixture
def job_script(tmp_path, monkeypatch):
    """The script that would be submitted for settings."""
    monkeypatch.setattr(cluster, "_check_job", lambda script: None)

    def script(kind, settings):
        executor = cluster.queue_executor(kind, settings, 3, None, None, Path(tempfile.mkdtemp(dir=tmp_path)))
        try:
            return executor._client.cluster.job_script()
        finally:
            executor.shutdown(wait=False)

    return script


@pytest.mark.parametrize("kind", SCRIPTS)
def test_every_batch_system_gets_what_the_same_keys_say(job_script, kind):
    more, expected = SCRIPTS[kind]
    script = job_script(kind, {**MPI, **more})
    lines = script.splitlines()
    for line in expected:
        assert line in lines, (line, lines)
    assert "#SBATCH -n 1" not in lines and '#BSUB -R "span[hosts=1]"' not in lines
    assert f"export {LAUNCHER}='mpirun -np 4'" in lines and "export OMP_NUM_THREADS=2" in lines
    assert "--nworkers=2" in script and "--nthreads 1" in script


def test_srun_shares_a_job_among_labels(job_script):
    script = job_script("slurm", {**MPI, "launcher": "srun"})
    assert f"export {LAUNCHER}='srun --ntasks=4 --cpus-per-task=2 --exact --mem=4000M'" in script
    assert "'srun --ntasks=4 --cpus-per-task=2'" in job_script("slurm", {**MPI, "launcher": "srun", "labels_per_job": 1})
    own = job_script("slurm", {**MPI, "launcher": "mpiexec.hydra -n {tasks} -env A='b c'"})
    assert r"'mpiexec.hydra -n 4 -env A='\''b c'\'''" in own


def launched(command, other):
    """A calculator that keeps its command line."""
    calculator = LennardJones(sigma=2.0)
    calculator.code = f"{command} {other['commands'][0]}"
    return calculator


def test_the_launcher_of_a_job_is_no_part_of_a_label(monkeypatch):
    parameters = {"command": "{launcher} pw.x -nk 2", "other": {"commands": ["{launcher} x"]}}
    labeller = CalculatorLabeller("test_queues:launched", parameters)
    monkeypatch.delenv(LAUNCHER, raising=False)
    assert labeller.label(crystal()).settings["code"] == "pw.x -nk 2 x"
    monkeypatch.setenv(LAUNCHER, "mpirun -np 4")
    label = labeller.label(crystal())
    assert label.settings["code"] == "mpirun -np 4 pw.x -nk 2 mpirun -np 4 x"
    assert label.settings["parameters"] == parameters


LISTED = {
    "slurm": "  11 RUNNING None\n  13 PENDING Priority\n",
    "pbs": "\nserver:\n                   Req'd\nJob ID  Username\n------- -----\n11.server me q R\n13[].server me q Q\n",
    "sge": "job-ID prior name\n-----------\n     11 0.5 x me r\n     13 0.5 x me qw\n",
    "lsf": "11\n13\n",
}


@pytest.mark.parametrize("kind", LISTED)
def test_jobs_are_found_in_the_list_of_every_batch_system(tmp_path, monkeypatch, kind):
    (tmp_path / "list").write_text(LISTED[kind])
    for name in ("squeue", "qstat", "bjobs"):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/list\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    class Cluster:
        workers: ClassVar = {}

        def sync(self, function, seen, queue):
            found.update(queue)

    found = {}
    JobWatch(kind, Cluster(), lambda: None).look()
    assert set(found) == {"11", "13"}
