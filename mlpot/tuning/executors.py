"""Processes for trials: one pool of one process for each worker, so that a crash costs the trial that caused it, and no other."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor

from ..processes import become_worker


class SeparateProcesses(Executor):
    """An executor of `n_workers` processes that live on from task to task; one that died is replaced.

    At most `n_workers` tasks may be submitted at a time, as `search` does.

    Parameters
    ----------
    n_workers : int
    """

    def __init__(self, n_workers: int):
        self._free: list[ProcessPoolExecutor] = [_pool() for _ in range(n_workers)]
        self._all = list(self._free)

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Start fn(*args, **kwargs) in a free process; RuntimeError if there is none."""
        if not self._free:
            raise RuntimeError("every process is busy")
        pool = self._free.pop()
        future = pool.submit(fn, *args, **kwargs)
        future.add_done_callback(lambda done: self._release(pool, done))
        return future

    def _release(self, pool: ProcessPoolExecutor, done: Future) -> None:
        if not done.cancelled() and isinstance(done.exception(), BrokenExecutor):
            self._all.remove(pool)
            pool.shutdown(wait=False)
            pool = _pool()
            self._all.append(pool)
        self._free.append(pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes after the tasks that they have begun."""
        for pool in self._all:
            pool.shutdown(wait, cancel_futures=cancel_futures)


def _pool() -> ProcessPoolExecutor:
    # spawned, not forked: this process may have threads that hold locks
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=become_worker)
