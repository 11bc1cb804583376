"""Processes: who holds a file, and helpers that make numbers for this one."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def worker_pool(n_workers: int | None) -> Iterator[ProcessPoolExecutor | None]:
    """So many processes of one thread each until the end of the block, None for None; an exception ends them at once."""
    if n_workers is None:
        yield None
        return
    before = set(multiprocessing.active_children())
    # spawned, not forked: this process may have threads that hold locks
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), initializer=_become_worker)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _become_worker() -> None:
    """One thread; an interrupt from the keyboard is for the main process, which ends the others."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
