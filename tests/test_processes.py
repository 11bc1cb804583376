"""Processes: what identifies one, which belong to another, and how all of them are ended."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from labelling import has_ended

from mlpot.processes import descendants, end_descendants, end_marked, identity, is_alive, marked, start_time

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEPER, env={**os.environ, "MLPOT_TEST_MARK": f"a={os.getpid()}"})
    yield process
    process.kill()
    process.wait()


def test_a_process_is_identified_by_pid_and_start_time(sleeper):
    known = identity(sleeper.pid)
    assert is_alive(known) and known == identity(sleeper.pid)
    assert known["started"] != start_time(os.getpid()) and is_alive(identity())
    assert not is_alive({**known, "started": start_time(os.getpid())}), "another process under a pid that was used again"
    assert is_alive({**known, "host": "another", "started": "0"})


def test_a_zombie_is_not_alive(sleeper):
    known = identity(sleeper.pid)
    sleeper.kill()
    assert has_ended(sleeper.pid)
    assert start_time(sleeper.pid) is None and not is_alive(known)  # it is not waited for yet
    sleeper.wait()
    assert start_time(sleeper.pid) is None and descendants(sleeper.pid) == []


@linux
def test_the_start_time_is_the_kernels_whatever_the_clock_says(sleeper, monkeypatch):
    """Claims of earlier versions hold it too, and setting the clock must not make a living process look dead."""
    ticks = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert start_time(sleeper.pid) == ticks
    boot = psutil.boot_time()
    for module in (psutil, psutil._psplatform):
        monkeypatch.setattr(module, "boot_time", lambda: boot + 7200.25)
    assert start_time(sleeper.pid) == ticks


def test_marked_processes_are_found_and_ended(sleeper):
    mark = f"MLPOT_TEST_MARK=a={os.getpid()}"
    assert marked(mark) == [sleeper.pid] and marked(mark + "0") == []
    end_marked(mark)
    assert sleeper.wait(10) < 0 and marked(mark) == []


def test_descendants_are_found_and_ended():
    code = f"import subprocess, time; p = subprocess.Popen({SLEEPER!r}); print(p.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        child = int(parent.stdout.readline())
        assert descendants(parent.pid) == [child] and {parent.pid, child} <= set(descendants(os.getpid()))
        end_descendants(parent.pid)
        assert has_ended(child) and parent.poll() is None
    finally:
        parent.kill()
        parent.communicate()
