"""Executors on clusters, as far as they can be tested without one, and the processes that a job leaves behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from labelling import has_ended

from mlpot.errors import ConfigError, LabelError
from mlpot.labellers import failures, scratch
from mlpot.processes import identity
from mlpot.workers import cluster_worker
from mlpot.workers.cluster import GUARDIAN, dask_executor
from mlpot.workers.local import SubprocessExecutor, run_alone
from mlpot.workers.queues import JobShape, checked_jobs

RUN_ALONE = """
import os, pickle, sys, time
from mlpot.workers.local import run_alone
from mlpot.processes import identity
if __name__ == "__main__":
    from labelling import start_a_child
    run_alone(pickle.dumps((start_a_child, (sys.argv[1],), {})), sys.path, None, None, identity(os.getppid()))
"""


def wait_for(file, seconds=20.0):
    end = time.monotonic() + seconds
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return file.read_text()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"pip install 'mlpot\[cluster\]' or pip install distributed"):
        dask_executor("tcp://localhost:1", None, None)
    with pytest.raises(ConfigError, match="pip install dask-jobqueue"):
        checked_jobs("slurm", {"memory": "1GB"})


def test_settings_of_slurm():
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    good = {
        "queue": "main",
        "account": "me",
        "cores": 8,
        "memory": "1GB",
        "walltime": "1:00",
        "job_script_prologue": ["a"],
    }
    assert checked_jobs("slurm", good) == JobShape(cores=8)
    for key in ("accuont", "processes", "python", "env_extra"):
        with pytest.raises(ConfigError, match=f"labeller.slurm.{key}: unknown key"):
            checked_jobs("slurm", {**good, key: 1})


def test_a_task_alone_returns_and_raises():
    def run(function, *arguments, timeout=None):
        return run_alone(pickle.dumps((function, arguments, {})), sys.path, timeout, None, identity())

    assert run(pow, 2, 5) == 32
    with pytest.raises(ZeroDivisionError) as caught:
        run(divmod, 1, 0)
    assert failures.process_of(caught.value)["host"] == identity()["host"]
    with pytest.raises(LabelError, match=r"longer than the limit of 0\.5 s") as caught:
        run(time.sleep, 60, timeout=0.5)
    assert has_ended(failures.process_of(caught.value)["pid"])


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False])
def test_a_label_ends_when_its_job_is_gone_and_not_before(tmp_path, guarded):
    """It outlives the worker of the cluster, but not both that and its guardian."""
    script = tmp_path / "script.py"
    script.write_text(RUN_ALONE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shell = f"{sys.executable} {script} {tmp_path / 'child'} & echo $! > {tmp_path / 'worker'}; sleep 600"
    job = subprocess.Popen(["bash", "-c", shell], env=environment, start_new_session=True)
    child = int(wait_for(tmp_path / "child"))
    os.kill(int(wait_for(tmp_path / "worker")), signal.SIGKILL)
    if not guarded:
        os.killpg(job.pid, signal.SIGKILL)
    assert has_ended(child, 2.0 if guarded else 15.0) == (not guarded)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert has_ended(child, 15.0)


def test_a_job_stays_until_its_labels_are_done(tmp_path, monkeypatch):
    """The Dask worker has left; a process of a label that it started is still there."""

    def leave_a_label(command, env):
        assert command[1:] == ["-m", "distributed.cli.dask_worker", "tcp://nowhere:1"]
        assert env[GUARDIAN] == str(os.getpid())
        code = f"import time; time.sleep(1); open({str(tmp_path / 'label')!r}, 'w').write('done')"
        children.append(subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True))
        return 7

    children = []
    monkeypatch.setattr(cluster_worker.subprocess, "call", leave_a_label)
    monkeypatch.setattr(cluster_worker, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(sys, "argv", ["cluster_worker", "tcp://nowhere:1"])
    with pytest.raises(SystemExit) as ended:
        cluster_worker.main()
    assert ended.value.code == 7
    assert (tmp_path / "label").read_text() == "done"
    assert children[0].wait(10) == 0


def test_a_label_that_is_asked_to_end_leaves_nothing(tmp_path, monkeypatch):
    """A queue sends SIGTERM before it kills: the claim is given up, so that no other host waits for a sign of life."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with SubprocessExecutor() as executor:
        future = executor.submit(claim_and_sleep, tmp_path)
        wait_for(tmp_path / "pid")
        (claim,) = tmp_path.glob("*.claim")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        with pytest.raises(LabelError, match="status 143"):
            future.result()
    assert not claim.exists()
    assert not list(tmp_path.glob(f"{scratch.PREFIX}*"))


class Sleeper:
    """A labeller that takes its time."""

    def __init__(self, folder):
        self.folder, self.settings = folder, {}

    def label(self, atoms):
        with scratch.scratch_folder():
            Path("wavefunction").write_text("big")
            (self.folder / "pid").write_text(str(os.getpid()))
            time.sleep(600)


def claim_and_sleep(folder):
    from labelling import crystal

    from mlpot.labels.inbox import label_into

    label_into(Sleeper(folder), crystal(), folder)
