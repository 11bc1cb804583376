"""Processes: who holds a file, and helpers that make numbers for this one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

SET_CHILD_SUBREAPER = 36
"""Of prctl(2)."""
ROUNDS, ROUND_SECONDS = 200, 0.01
"""Looks for processes that do not end at once, or that start others, and the time between them."""


def host() -> str:
    """The name of this machine."""
    return platform.node()


def identity(pid: int | None = None) -> dict:
    """Host, pid and start time of a process of this machine: of this one, when none is given."""
    pid = os.getpid() if pid is None else pid
    return {"host": host(), "pid": pid, "started": start_time(pid)}


def is_alive(owner: dict) -> bool:
    """Whether the process of `identity` still runs; one on another host is believed to."""
    if owner.get("host") != host():
        return True
    started = start_time(int(owner["pid"]))
    return started is not None and started == owner.get("started")


def start_time(pid: int) -> str | None:
    """When a process started, in whatever form the system tells; None when there is no such process or it is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def adopt_orphans() -> None:
    """Let this process be the parent of all that its children leave behind, wherever these have gone (Linux; elsewhere nothing)."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Pids of living children of a process, of their children, and so on."""
    parents: dict[int, list[int]] = {}
    for child, parent in _living():
        parents.setdefault(parent, []).append(child)
    found, new = list[int](), [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, ())]
        found += new
    return found


def marked(line: str) -> list[int]:
    """Pids of living processes of this user that began with a line, such as "NAME=value", in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if line.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
        except OSError:  # of another user, or just gone
            continue
    return [pid for pid in found if pid != os.getpid() and start_time(pid) is not None]


def end_descendants(pid: int) -> None:
    """Kill all that a process has started, but not the process itself."""
    _end(lambda: descendants(pid))


def end_marked(line: str) -> None:
    """Kill all processes that `marked` finds."""
    _end(lambda: marked(line))


def _end(find: Callable[[], list[int]]) -> None:
    """Kill whoever is found until there is nobody: one may start another in the meantime, unless it has been stopped first."""
    for _ in range(ROUNDS):
        found = find()
        if not found:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(ROUND_SECONDS)


def _living() -> Iterator[tuple[int, int]]:
    """Pid and parent's pid of all processes but zombies."""
    if Path("/proc/self/stat").exists():
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent = file.read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                yield int(file.parent.name), int(parent)
        return
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        if not state.startswith("Z"):
            yield int(pid), int(parent)


@contextmanager
def worker_pool(n_workers: int | None) -> Iterator[ProcessPoolExecutor | None]:
    """So many processes of one thread each until the end of the block, None for None; after an exception they finish what they have
    begun, as ending them in the middle of a long message leaves the executor, and this process, waiting for the rest for ever."""
    if n_workers is None:
        yield None
        return
    # spawned, not forked: this process may have threads that hold locks
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), initializer=_become_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def leaving_on_signals(grace: float = 1.0) -> Iterator[None]:
    """SIGTERM ends the block with SystemExit, SIGINT with KeyboardInterrupt, as soon as Python may run; when compiled code
    keeps it from that, or tidying up takes longer, the process ends `grace` seconds after the signal. For the main thread.
    """
    over = threading.Event()
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    def watch() -> None:
        while number := os.read(heard, 1):
            if number[0] in (signal.SIGTERM, signal.SIGINT) and not over.wait(grace):
                os._exit(128 + number[0])

    before = signal.signal(signal.SIGTERM, leave)
    old_descriptor = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(old_descriptor)
        signal.signal(signal.SIGTERM, before)
        os.close(told)
        watcher.join()
        os.close(heard)


def _become_worker() -> None:
    """One thread; an interrupt from the keyboard is for the main process, which ends the others."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
