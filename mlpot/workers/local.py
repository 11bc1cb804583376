"""The default executor of labels: a process for each task, so that a crash affects that task only."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigError, LabelError, ResourceError, system_trouble
from ..labellers import failures, scratch
from ..processes import end_descendants, end_marked, identity

PRELOADED = ("mlpot.labellers.calculator", "mlpot.labels.inbox")
LOG_TAIL, LOG_KEPT = 1500, 1_000_000
"""Bytes of the output of a failed worker that are part of the error, and that are saved if failures are saved."""
MARK = "MLPOT_LABEL"
"""Environment variable that says to which worker a process belongs."""
EXIT_SECONDS = 5.0
"""Time that a worker has to exit after its answer."""
# the import path is an argument, since PYTHONPATH would affect every Python program that a calculator starts
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from mlpot.workers.worker import main; main()"
log = logging.getLogger(__name__)


class _Worker:
    """A process that has imported what it needs and waits for its only task.

    It is a new program and not a fork, which OpenMP would not survive. It starts in the folder `home`, by default the present one.
    """

    def __init__(self, preload: tuple[str, ...], path: Sequence[str] = sys.path, home: str | None = None):
        source, self._tasks = os.pipe()
        self._answers, sink = os.pipe()
        self._log = tempfile.TemporaryFile()  # without a name, so that nothing is left if this process is killed
        self._end = ""
        self._mark = f"{MARK}={os.getpid()}-{secrets.token_hex(8)}"
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(list(path)), str(os.getpid()), str(source), str(sink),
                *preload], stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                pass_fds=(source, sink), start_new_session=True, cwd=home,
                env={**os.environ, scratch.OWNED: str(os.getpid()), MARK: self._mark.partition("=")[2]},
            )  # fmt: skip
        except OSError:
            os.close(self._tasks)
            os.close(self._answers)
            self._log.close()
            raise
        finally:
            os.close(source)
            os.close(sink)
        self.identity = identity(self.process.pid)

    def run(self, task: bytes, timeout: float | None, guardian: dict | None = None) -> Any:
        """The result of the task; raises what the task raised, or LabelError if the process died or took too long.

        With a guardian, the `identity` of a process, the worker ends once both that process and this one have ended. After the
        answer it may still be exiting; `dismiss` waits for it.
        """
        timer = None if timeout is None else threading.Timer(timeout, self.kill, [f"took longer than the limit of {timeout:g} s"])
        if timer:
            timer.daemon = True
            timer.start()
        try:
            answer = self._exchange(pickle.dumps((timeout, guardian, task)))
        finally:
            if timer:
                timer.cancel()
        try:
            succeeded, value = pickle.loads(answer)
        except Exception as error:  # no answer, or a part of it: the process died
            raise LabelError(self._obituary(self._await_end())) from error
        if succeeded:
            return value
        failures.note_output(value, self.output())
        raise value

    def _exchange(self, data: bytes) -> bytes:
        tasks, self._tasks = self._tasks, -1
        answers, self._answers = self._answers, -1
        with os.fdopen(answers, "rb") as answer:
            with suppress(BrokenPipeError), os.fdopen(tasks, "wb") as pipe:
                pipe.write(data)
            return answer.read()

    def _await_end(self) -> int:
        """Exit status; a worker that does not exit, and processes that it has left behind, are killed."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(EXIT_SECONDS)
        self.kill("")
        return self.process.wait()

    def _obituary(self, status: int) -> str:
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
            why = self._end or ("possibly out of memory" if status == -signal.SIGKILL else "")
        else:
            how, why = f"ended with status {status}", self._end
        tail = self.output()
        reason = f" ({why})" if why else ""
        return f"the labelling process {how}{reason}" + (f"; last output:\n{tail}" if tail else "")

    def output(self, n_bytes: int = LOG_TAIL) -> str:
        """The end of the output of the process."""
        size = os.fstat(self._log.fileno()).st_size
        # pread, since the file offset is shared with the process that writes
        return os.pread(self._log.fileno(), n_bytes, max(0, size - n_bytes)).decode(errors="replace").strip()

    def kill(self, why: str) -> None:
        """Kill the process and everything it has started, including processes outside of its session.

        As long as the worker lives, it is the ancestor of all of them; those left by a crashed worker are found by their mark.
        """
        self._end = self._end or why
        if self.process.returncode is None:
            end_descendants(self.process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        end_marked(self._mark)

    def dismiss(self) -> None:
        """End a worker that is idle or has finished."""
        for descriptor in (self._tasks, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._tasks = self._answers = -1
        self._await_end()
        scratch.remove_left_by(self.process.pid)
        self._log.close()


def _keep(worker: _Worker, error: BaseException, target: Path | None) -> None:
    """Save the files of a failed task, and add their place to the error; not for wrong configurations, which fail before."""
    if target is None or isinstance(error, ConfigError):
        return
    try:
        folder = failures.keep(target, scratch.left_by(worker.process.pid), worker.output(LOG_KEPT), error)
    except OSError as problem:
        log.warning("the files of a failed label cannot be saved in %s: %s", target, problem)
    else:
        failures.note_files(error, folder)


def _not_started(error: OSError) -> ResourceError:
    return ResourceError(f"a worker process could not be started: {system_trouble(error)}")


def run_alone(
    task: bytes, path: list[str], timeout: float | None, keep_failed: Path | None, guardian: dict | None
) -> Any:
    """Run a pickled (function, args, kwargs) in a separate process and wait for it: for workers of a cluster.

    A crash affects that task only; a task that exceeds the time limit is killed.

    Parameters
    ----------
    task : bytes
    path : list of str
        Import path of the process that submitted the task.
    timeout, keep_failed
        See `SubprocessExecutor`.
    guardian : dict or None
        The process does not outlive both this one and the one with this `identity`.
    """
    scratch.remove_orphans()
    try:
        worker = _Worker((), path)
    except OSError as error:
        raise _not_started(error) from error
    try:
        return worker.run(task, timeout, guardian)
    except BaseException as error:
        failures.note_process(error, worker.identity)
        _keep(worker, error, keep_failed)
        raise
    finally:
        worker.dismiss()


class SubprocessExecutor(Executor):
    """Runs each task in a new process, at most `max_workers` at a time, with one spare process that is ready.

    If this process is killed, tasks that have started finish by themselves, and idle workers exit. As a context manager it waits
    for its tasks at the normal end of the block and kills them if the block raises, also by Ctrl-C.

    Parameters
    ----------
    max_workers : int
        Number of tasks at the same time.
    timeout : float or None
        Wall-time limit (s) after which a task and everything it has started is killed.
    preload : tuple of str
        Modules that workers import before their task comes.
    keep_failed : Path or None
        Folder in which scratch files and output of failed tasks are saved, see `failures.files_of`; None discards them.
    """

    def __init__(
        self,
        max_workers: int = 1,
        timeout: float | None = None,
        preload: tuple[str, ...] = PRELOADED,
        keep_failed: str | Path | None = None,
    ):
        self._timeout, self._preload = timeout, tuple(preload)
        self._keep_failed = None if keep_failed is None else Path(keep_failed).absolute()
        # workers must not start in a scratch folder in which the script happens to be later
        self._home = os.getcwd()
        self._slots = threading.Semaphore(max_workers)
        self._lock = threading.Lock()
        self._spare: _Worker | None = _Worker(self._preload, home=self._home)
        self._busy: set[_Worker] = set()
        self._futures: set[Future] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        scratch.remove_orphans()

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Start fn(*args, **kwargs) in a separate process; everything must be picklable."""
        task = pickle.dumps((fn, args, kwargs))
        future: Future = Future()
        thread = threading.Thread(target=self._serve, args=(future, task), daemon=True)
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor has been shut down")
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            self._futures.add(future)
            thread.start()
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future) -> None:
        with self._lock:
            self._futures.discard(future)

    def _serve(self, future: Future, task: bytes) -> None:
        with self._slots:
            if not future.set_running_or_notify_cancel():
                return
            try:
                worker = self._take_worker()
            except OSError as error:
                future.set_exception(_not_started(error))
                return
            try:
                future.set_result(worker.run(task, self._timeout))
            except BaseException as error:
                _keep(worker, error, self._keep_failed)
                future.set_exception(error)
            finally:
                worker.dismiss()
                with self._lock:
                    self._busy.discard(worker)

    def _take_worker(self) -> _Worker:
        with self._lock:
            worker, self._spare = self._spare, None
            if worker is not None and worker.process.poll() is not None:
                worker.dismiss()  # it died while idle, which is not the fault of the task
                worker = None
            worker = worker or _Worker(self._preload, home=self._home)
            self._busy.add(worker)
            if not self._closed:
                self._spare = _Worker(self._preload, home=self._home)
            return worker

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the spare worker; with `cancel_futures` kill the others too; with `wait` wait for them."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
            pending = list(self._futures) if cancel_futures else []
        for future in pending:
            future.cancel()
        with self._lock:
            busy = list(self._busy) if cancel_futures else []
            threads = list(self._threads)
        for worker in busy:
            worker.kill("the executor was shut down")
        if spare:
            spare.kill("")
            spare.dismiss()
        if wait:
            for thread in threads:
                thread.join()

    def __exit__(self, kind, value, traceback) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)
