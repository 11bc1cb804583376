"""A look, now and then, at the batch jobs of a Dask cluster, for those that Dask waits for in vain.

Dask replaces a worker that it has known. A job that could not be submitted, since the queue was down for a minute, or that
ended before its worker had said a word, since it was cancelled while it waited or its prologue failed, it awaits for ever.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any

LOOK_SECONDS, COMMAND_SECONDS = 15.0, 60.0
MOST_LOST = 10
"""Jobs that end before their worker is there, one after the other, before the cluster is given up."""
log = logging.getLogger(__name__)


class JobWatch:
    """Has jobs submitted again that will never come, from a thread of its own; use as a context manager.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    give_up : callable
        Called when jobs do nothing but end.
    """

    def __init__(self, cluster: Any, give_up: Callable[[], None]):
        self._cluster, self._give_up = cluster, give_up
        self._n_lost = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> JobWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._ended.set()
        self._thread.join(COMMAND_SECONDS)
        for job in list(self._cluster._created):
            if job.job_id is None:
                _write_off(job)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self.look()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                log.warning("Slurm does not do what it should; trying again: %s", error)
            if self._n_lost > MOST_LOST:
                log.error("%d jobs ended before their worker was there; see what they printed", self._n_lost)
                return self._give_up()

    def look(self) -> None:
        """Find the jobs that are neither known to Dask nor in the queue, and have them submitted again.

        Raises
        ------
        OSError, RuntimeError, subprocess.SubprocessError
            If Slurm's commands fail.
        """
        seen = dict(self._cluster.workers)  # before the queue is read: a job submitted after that is not lost
        listed = subprocess.run(
            ["squeue", f"--user={os.getuid()}", "--noheader", "--format=%A"],
            capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        self._cluster.sync(self._replace, seen, set(listed.stdout.split()))

    async def _replace(self, seen: dict, queue: set[str]) -> None:
        cluster = self._cluster
        present = {str(worker.name) for worker in cluster.scheduler.workers.values()}
        lost = [
            name
            for name, job in seen.items()
            if cluster.workers.get(name) is job and str(name) not in present and job.job_id not in queue
        ]
        self._n_lost = 0 if present else self._n_lost + sum(seen[name].job_id is not None for name in lost)
        for name in lost:
            log.warning("job %s of %s has gone, or was never taken; submitting another", seen[name].job_id, name)
            _write_off(cluster.workers.pop(name))
        if lost:
            await cluster._correct_state()


def _write_off(job: Any) -> None:
    """Tell Dask that a job has failed; else it finds at its end that one was forgotten, and raises."""
    job.status = type(job.status).failed
