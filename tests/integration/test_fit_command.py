"""`mlpot fit` as users run it: workers, an interrupt, labels that are wrong."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.io import write
from conftest import FIT_FILE, make_frames

import mlpot


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.xyz", make_frames(24, seed=24), format="extxyz")
    (tmp_path / "fit.toml").write_text(FIT_FILE.format(n_sparse=60, model="model.h5"))
    return tmp_path


def mlpot_fit(folder, *options):
    command = [sys.executable, "-m", "mlpot", "fit", "fit.toml", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid):
    """Processes that descend from one, by /proc."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()]
    return [int(p) for p, parent, state in rows if int(parent) == pid and "Z" not in state]


@pytest.mark.slow
def test_workers_give_the_same_model(folder):
    models = []
    for options in ([], ["--workers", "2"]):
        process = mlpot_fit(folder, *options)
        out, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems
        assert "left out: even" in out
        models.append(mlpot.load_model(folder / "model.h5"))
    np.testing.assert_array_equal(models[0].weights, models[1].weights)
    process = mlpot_fit(folder, "--workers", "0")
    assert process.wait(60) == 2


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.5, 1.5, 3.0, 5.0])
def test_an_interrupt_leaves_nothing(folder, delay):
    """Ctrl-C at any time: one line, exit code 130, no model, nothing half-written, no worker left."""
    (folder / "fit.toml").write_text(FIT_FILE.format(n_sparse=600, model="model.h5"))
    write(folder / "train.xyz", make_frames(24, seed=24) * 40, format="extxyz")
    process = mlpot_fit(folder, "--workers", "2")
    while not children(process.pid):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(delay)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 130, problems
    assert "interrupted" in problems
    assert "Traceback" not in problems
    assert sorted(file.name for file in folder.iterdir()) == ["fit.toml", "train.xyz"]
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


@pytest.mark.slow
def test_a_worker_that_is_killed(folder):
    (folder / "fit.toml").write_text(FIT_FILE.format(n_sparse=600, model="model.h5"))
    write(folder / "train.xyz", make_frames(24, seed=24) * 40, format="extxyz")
    process = mlpot_fit(folder, "--workers", "2")
    deadline = time.monotonic() + 60
    while len(workers := [p for p in children(process.pid) if b"spawn_main" in cmdline(p)]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(workers[-1], signal.SIGKILL)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker died" in problems
    assert not (folder / "model.h5").exists()


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
