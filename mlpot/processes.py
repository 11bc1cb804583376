"""Processes: what identifies them, how to end them, and pools of helpers."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress

import psutil

SET_CHILD_SUBREAPER = 36
"""Operation PR_SET_CHILD_SUBREAPER of prctl(2)."""
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ROUNDS, ROUND_SECONDS = 200, 0.01
"""Number of attempts to end processes, and the time (s) between two: some do not end at once, or start others."""


def host() -> str:
    """The name of this machine."""
    return platform.node()


def identity(pid: int | None = None) -> dict:
    """Host, pid and start time of a process on this machine, by default of this process."""
    pid = os.getpid() if pid is None else pid
    return {"host": host(), "pid": pid, "started": start_time(pid)}


def is_alive(owner: dict) -> bool:
    """Whether the process with this `identity` is running; assumed for processes on other hosts."""
    if owner.get("host") != host():
        return True
    started = start_time(int(owner["pid"]))
    return started is not None and started == owner.get("started")


def start_time(pid: int) -> str | None:
    """When a process started, as text; None when there is no such process or it is a zombie.

    With the pid it identifies a process: pids are used again. On Linux it is in clock ticks since the machine started, which
    setting the clock does not change; elsewhere it is the time of day that the system has recorded.
    """
    try:
        while True:
            boot = psutil.boot_time()
            process = psutil.Process(pid)
            started = process.create_time()
            if process.status() in ENDED:
                return None
            if not psutil.LINUX:
                return repr(started)
            if psutil.boot_time() == boot:  # else the clock was set in between: psutil adds the boot time to the ticks
                return str(round((started - boot) * TICKS_PER_SECOND))
    except psutil.NoSuchProcess:
        return None


def adopt_orphans() -> None:
    """Make this process the parent of all orphans among its descendants, whatever their session (on Linux only)."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Pids of the living descendants of a process."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True) if start_time(child.pid) is not None]
    except psutil.NoSuchProcess:
        return []


def marked(line: str) -> list[int]:
    """Pids of living processes of this user whose environment holds a line such as "NAME=value", this process apart."""
    name, _, value = line.partition("=")
    found, user = [], os.getuid()
    for process in psutil.process_iter():
        try:
            is_own = process.uids().real == user and process.pid != os.getpid()
            if is_own and process.status() not in ENDED and process.environ().get(name) == value:
                found.append(process.pid)
        except psutil.Error:  # it has just ended, or does not show its environment
            continue
    return found


def end_descendants(pid: int) -> None:
    """Kill all descendants of a process, but not the process itself."""
    _end(lambda: descendants(pid))


def end_marked(line: str) -> None:
    """Kill all processes found by `marked`."""
    _end(lambda: marked(line))


def _end(find: Callable[[], list[int]]) -> None:
    """Kill the processes found until there are none. They are stopped first, so that they cannot start others meanwhile."""
    for _ in range(ROUNDS):
        found = find()
        if not found:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(ROUND_SECONDS)


@contextmanager
def worker_pool(n_workers: int | None) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of processes with one thread each until the end of the block; None if `n_workers` is None.

    After an exception the processes finish the tasks that they have started: if they were ended in the middle of a long message, the
    executor, and this process, would wait for the rest of it indefinitely.
    """
    if n_workers is None:
        yield None
        return
    # spawned, not forked: this process may have threads that hold locks
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), initializer=become_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def leaving_on_signals(grace: float = 1.0) -> Iterator[None]:
    """End the block on SIGTERM with SystemExit, and on SIGINT with KeyboardInterrupt. For the main thread.

    If compiled code delays that, or cleaning up takes longer, the process ends `grace` seconds after the signal.
    """
    over = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in (signal.SIGTERM, signal.SIGINT) and not over.wait(grace):
                os._exit(128 + number[0])

    before = signal.signal(signal.SIGTERM, leave)
    old_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(old_descriptor)
        signal.signal(signal.SIGTERM, before)
        os.close(writer)
        watcher.join()
        os.close(reader)


def become_worker() -> None:
    """Use one thread, and leave Ctrl-C to the main process, which ends the workers."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
