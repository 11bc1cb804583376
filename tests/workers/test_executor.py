"""Tasks in processes of their own: what they cost when they fail, and that none stays."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import CancelledError

import pytest
from labelling import (
    crystal,
    faulty,
    has_ended,
    leave_a_program_behind,
    print_and_exit,
    raise_unpicklable,
    start_a_child,
)

from mlpot.durable import write_text
from mlpot.errors import LabelError
from mlpot.labellers import scratch
from mlpot.labellers.faulty import calls
from mlpot.labels.inbox import label_into
from mlpot.processes import host
from mlpot.workers.local import BOOT, SubprocessExecutor

# ---------------------------------------------------------------- calculator


def test_tasks_run_in_other_processes_at_most_so_many_at_a_time():
    with SubprocessExecutor(max_workers=2) as executor:
        answers = list(executor.map(pow, range(3), [2] * 3))
        pids = {executor.submit(os.getpid).result() for _ in range(2)}
    assert answers == [0, 1, 4]
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert all(has_ended(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "self-consistency"),
        ("crash", "SIGKILL"),
        ("exit", "status 3"),
        ("hang", "longer than the limit of 8 s"),
    ],
)
def test_a_fault_costs_its_own_task_only(tmp_path, monkeypatch, fault, words):
    local_disk = tmp_path / "local"
    local_disk.mkdir()
    monkeypatch.setenv("TMPDIR", str(local_disk))
    monkeypatch.setattr(tempfile, "tempdir", None)
    labeller = faulty(tmp_path, fail=[fault])
    with SubprocessExecutor(timeout=8.0) as executor:  # long enough for a label on a busy machine
        with pytest.raises(LabelError, match=words):
            executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
        assert executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
    assert len(calls(tmp_path / "calls.txt", "start")) == 2
    assert [file.suffix for file in (tmp_path / "inbox").iterdir()] == [".json"]
    assert not list(local_disk.iterdir())


def test_output_goes_to_the_error_and_not_to_the_terminal(capfd):
    with (
        SubprocessExecutor() as executor,
        pytest.raises(LabelError, match=r"status 7[\s\S]*last output[\s\S]*last words[\s\S]*started"),
    ):
        executor.submit(print_and_exit, 7).result()
    captured = capfd.readouterr()
    assert not captured.out
    assert not captured.err


def test_what_a_failed_label_left_can_be_kept(tmp_path):
    labeller = faulty(tmp_path, fail=["crash", "raise"])
    with SubprocessExecutor(keep_failed=tmp_path / "failed") as executor:
        for _ in range(2):
            with pytest.raises(LabelError):
                executor.submit(label_into, labeller, crystal(), tmp_path / "inbox").result()
    kept = list((tmp_path / "failed").iterdir())
    assert len(kept) == 2
    for folder in kept:
        assert {"output.log", "error.txt"} < {file.name for file in folder.iterdir()}
        assert len(list(folder.glob(f"{scratch.PREFIX}-*"))) == 1
    assert any("Traceback" in (folder / "error.txt").read_text() for folder in kept)


def test_scratch_files_of_the_dead_are_removed(tmp_path, monkeypatch):
    """Those of a worker that was killed together with its executor; no others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    alive = os.getpid()
    for owner, pid in ((dead.pid, dead.pid), (alive, dead.pid), (dead.pid, alive)):
        (tmp_path / f"{scratch.PREFIX}-{host()}-{owner}-{pid}-abc_1").mkdir()
    (tmp_path / f"{scratch.PREFIX}-elsewhere-{dead.pid}-{dead.pid}-abc").mkdir()
    with SubprocessExecutor():
        left = {folder.name for folder in tmp_path.iterdir()}
    assert left == {
        f"{scratch.PREFIX}-{host()}-{alive}-{dead.pid}-abc_1",
        f"{scratch.PREFIX}-{host()}-{dead.pid}-{alive}-abc_1",
        f"{scratch.PREFIX}-elsewhere-{dead.pid}-{dead.pid}-abc",
    }


def test_exceptions_that_cannot_travel_arrive_as_label_errors():
    with SubprocessExecutor() as executor:
        with pytest.raises(LabelError, match="UnpicklableError: one"):
            executor.submit(raise_unpicklable).result()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()
        with pytest.raises((TypeError, LabelError), match="pickle"):
            executor.submit(threading.Lock).result()


@pytest.mark.slow
def test_a_timeout_ends_what_the_task_had_started(tmp_path):
    child = tmp_path / "pid"
    for timeout in (1.5, 6.0, 24.0):  # on a busy machine the first may pass before the task begins
        with SubprocessExecutor(timeout=timeout) as executor, pytest.raises(LabelError, match="longer than"):
            executor.submit(start_a_child, child).result()
        if child.exists():
            break
    assert has_ended(int(child.read_text()))


def test_a_program_left_behind_does_not_hold_up_the_news():
    started = time.monotonic()
    with SubprocessExecutor() as executor, pytest.raises(LabelError, match="status 1"):
        executor.submit(leave_a_program_behind).result()
    assert time.monotonic() - started < 25


def test_a_worker_whose_parent_is_gone_begins_nothing(tmp_path):
    for parent, begun in ((os.getpid(), True), (os.getppid(), False)):
        source, tasks = os.pipe()
        answers, sink = os.pipe()
        command = [sys.executable, "-c", BOOT, json.dumps(sys.path), str(parent), str(source), str(sink)]
        process = subprocess.Popen(command, pass_fds=(source, sink))
        with os.fdopen(tasks, "wb") as pipe:
            pipe.write(pickle.dumps((None, None, pickle.dumps((write_text, (tmp_path / "begun", "yes"), {})))))
        assert process.wait(30) == 0
        for descriptor in (source, sink, answers):
            os.close(descriptor)
        assert (tmp_path / "begun").exists() == begun
        (tmp_path / "begun").unlink(missing_ok=True)


def test_a_spare_that_died_is_replaced():
    with SubprocessExecutor() as executor:
        os.kill(executor._spare.process.pid, signal.SIGKILL)
        executor._spare.process.wait()
        assert executor.submit(pow, 2, 3).result() == 8


def test_shutdown_cancels_kills_and_refuses(tmp_path):
    executor = SubprocessExecutor()
    spare = executor._spare.process.pid
    running = executor.submit(start_a_child, tmp_path / "pid")
    waiting = executor.submit(pow, 2, 3)
    while not (tmp_path / "pid").exists():
        time.sleep(0.02)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(LabelError, match="executor was shut down"):
        running.result()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)
    assert has_ended(spare)
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_an_exception_in_the_block_leaves_no_process(tmp_path):
    with pytest.raises(KeyboardInterrupt), SubprocessExecutor() as executor:
        executor.submit(start_a_child, tmp_path / "pid")
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_an_idle_worker_leaves_with_its_parent():
    code = (
        "import os, signal; from mlpot.workers.local import SubprocessExecutor\n"
        "print(SubprocessExecutor()._spare.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert has_ended(int(done.stdout), 20.0)


# ---------------------------------------------------------------- inbox and claims


def test_workers_begin_where_the_executor_was_made(tmp_path, monkeypatch):
    """Not in the scratch folder that a script is in when the next one is made ready, and which is gone when its task comes."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    for folder in (home, scratch):
        folder.mkdir()
    monkeypatch.chdir(home)
    with SubprocessExecutor(1) as executor:
        monkeypatch.chdir(scratch)
        found = [executor.submit(os.getcwd).result() for _ in range(3)]
        monkeypatch.chdir(home)
        scratch.rmdir()
        found.append(executor.submit(os.getcwd).result())
    assert found == [str(home)] * 4
