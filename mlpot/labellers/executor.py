"""The default executor of labels: one worker process per task, so that a crash costs that task only."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path

from ..errors import LabelError

PRELOADED = ("mlpot.labellers.calculator", "mlpot.labellers.inbox")
LOG_TAIL = 1500
"""Characters of a failed worker's output that its error carries."""
log = logging.getLogger(__name__)


class _Worker:
    """A process that has imported what it needs and waits for its one task."""

    def __init__(self, preload: tuple[str, ...]):
        source, self._tasks = os.pipe()
        self._answers, sink = os.pipe()
        self._log = tempfile.NamedTemporaryFile(prefix="mlpot-worker-", suffix=".log")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlpot.labellers.worker", str(source), str(sink), *preload],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, pass_fds=(source, sink),
            start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(source)
        os.close(sink)

    def run(self, task: bytes, timeout: float | None):
        """Result of the task; whatever it raised, or LabelError when the process died or took too long."""
        timer = threading.Timer(timeout, self.kill) if timeout else None
        if timer:
            timer.start()
        try:
            with suppress(BrokenPipeError), os.fdopen(self._tasks, "wb") as pipe:
                pipe.write(task)
            self._tasks = -1
            with os.fdopen(self._answers, "rb") as pipe:
                answer = pipe.read()
            self._answers = -1
            status = self.process.wait()
        finally:
            if timer:
                timer.cancel()
        if not answer:
            raise LabelError(self._obituary(status, timeout))
        succeeded, value = pickle.loads(answer)
        if not succeeded:
            raise value
        return value

    def _obituary(self, status: int, timeout: float | None) -> str:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if timeout and status == -signal.SIGKILL:
            how += f" (the limit is {timeout} s)"
        tail = Path(self._log.name).read_text(errors="replace")[-LOG_TAIL:].strip()
        return f"the labelling process {how}" + (f"; its last words:\n{tail}" if tail else "")

    def kill(self) -> None:
        """End the process and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Let an idle worker go."""
        for descriptor in (self._tasks, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._tasks = self._answers = -1
        self.kill()
        self.process.wait()
        self._log.close()


class SubprocessExecutor(Executor):
    """Runs each task in a fresh process; at most `max_workers` at a time, and one spare that is already warm.

    Parameters
    ----------
    max_workers : int
        Tasks at a time.
    timeout : float or None
        Seconds after which a task is killed.
    preload : tuple of str
        Modules that workers import before their task comes.
    """

    def __init__(self, max_workers: int = 1, timeout: float | None = None, preload: tuple[str, ...] = PRELOADED):
        self._timeout, self._preload = timeout, preload
        self._slots = threading.Semaphore(max_workers)
        self._lock = threading.Lock()
        self._spare: _Worker | None = _Worker(preload)
        self._busy: set[_Worker] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Start fn(*args, **kwargs) in a process of its own; everything must be picklable."""
        if self._closed:
            raise RuntimeError("the executor has been shut down")
        future: Future = Future()
        task = pickle.dumps((fn, args, kwargs))
        thread = threading.Thread(target=self._serve, args=(future, task), daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return future

    def _serve(self, future: Future, task: bytes) -> None:
        with self._slots:
            if not future.set_running_or_notify_cancel():
                return
            try:
                worker = self._take_worker()
            except OSError as error:
                future.set_exception(LabelError(f"no worker process could be started: {error}"))
                return
            try:
                future.set_result(worker.run(task, self._timeout))
            except BaseException as error:
                future.set_exception(error)
            finally:
                with self._lock:
                    self._busy.discard(worker)
                worker.dismiss()

    def _take_worker(self) -> _Worker:
        with self._lock:
            worker, self._spare = self._spare, None
            worker = worker or _Worker(self._preload)
            self._busy.add(worker)
            if not self._closed:
                self._spare = _Worker(self._preload)
            return worker

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the spare worker go; with `cancel_futures`, kill those at work too; with `wait`, join the rest."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
            busy = list(self._busy) if cancel_futures else []
        if spare:
            spare.dismiss()
        for worker in busy:
            worker.kill()
        if wait:
            for thread in self._threads:
                thread.join()
