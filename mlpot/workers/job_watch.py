"""Watches the batch jobs of a Dask cluster for jobs that Dask would wait for in vain.

Dask replaces workers that have been connected. But it waits indefinitely for a job that could not be submitted, because the queue was
down for a minute, or that ended before its worker connected, because it was cancelled while it waited or its prologue failed.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

LISTS = {
    "slurm": ["squeue", "--user={uid}", "--noheader", "--format=%A %T %r"],
    "pbs": ["qstat", "-u", "{user}"],
    "sge": ["qstat", "-u", "{user}"],
    "lsf": ["bjobs", "-noheader", "-o", "jobid"],
}
"""Commands whose output lines begin with the numbers of this user's jobs."""
NEVER = {
    "PartitionTimeLimit": "walltime", "PartitionNodeLimit": "nodes", "QOSMaxWallDurationPerJobLimit": "walltime",
    "AssocMaxWallDurationPerJobLimit": "walltime", "BadConstraints": "constraint", "InvalidQOS": "qos", "InvalidAccount": "account",
    "QOSMaxNodePerJobLimit": "nodes", "QOSMaxCpuPerJobLimit": "tasks", "QOSMaxMemoryPerJob": "memory", "QOSMaxGRESPerJob": "gpus",
    "AssocMaxNodePerJobLimit": "nodes", "AssocMaxCpuPerJobLimit": "tasks", "QOSNotAllowed": "qos",
    "PartitionConfig": "walltime, nodes or memory",
    "JobHeldAdmin": "", "JobHeldUser": "", "launch_failed_requeued_held": "job_script_prologue",
}  # fmt: skip
"""Slurm's reasons for which a job will never start, and the key that must be changed."""
LOOKS_IN_VAIN = 3
"""Consecutive checks without any worker, in which no job can ever start, before the cluster is given up."""
LOOK_SECONDS, COMMAND_SECONDS = 15.0, 60.0
MOST_LOST = 10
"""Consecutive jobs that end before their worker connects, before the cluster is given up."""
JOB = re.compile(r"\s*(\d+)\S*\s*(.*)")
log = logging.getLogger(__name__)


class JobWatch:
    """Resubmits jobs that will never connect, from a thread of its own; use as a context manager.

    Parameters
    ----------
    kind : "slurm", "pbs", "sge" or "lsf"
    cluster : dask_jobqueue.JobQueueCluster
    give_up : callable
        Called with the reason, a sentence for users, if no job can work.
    """

    def __init__(self, kind: str, cluster: Any, give_up: Callable[[str], None]):
        self._kind, self._cluster, self._give_up = kind, cluster, give_up
        self._n_lost = self._in_vain = 0
        self._reported: dict[str, str] = {}  # what was said of each job
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
                log.warning("a command of the batch system failed; trying again: %s", error)
            if self._n_lost > MOST_LOST:
                lost = f"{self._n_lost} jobs ended before their worker connected"
                return self._give_up(f"{lost}; see what they wrote in the folder jobs of the run")
            if self._in_vain >= LOOKS_IN_VAIN:
                return self._give_up("no job can start: " + list(self._reported.values())[-1])

    def look(self) -> None:
        """Find jobs that are neither connected to Dask nor in the queue, and resubmit them.

        Raises
        ------
        OSError, RuntimeError, subprocess.SubprocessError
            If a command of the batch system fails.
        """
        seen = dict(self._cluster.workers)  # before the queue is read: a job submitted after that is not lost
        user = {"uid": os.getuid(), "user": pwd.getpwuid(os.getuid()).pw_name}
        command = [word.format(**user) for word in LISTS[self._kind]]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS)
        queue = {found[1]: found[2].split() for line in listed.stdout.splitlines() if (found := JOB.match(line))}
        self._cluster.sync(self._replace, seen, queue)

    async def _replace(self, seen: dict, queue: Mapping[str, list[str]]) -> None:
        cluster = self._cluster
        present = {str(worker.name) for worker in cluster.scheduler.workers.values()}
        absent = [name for name in seen if not any(worker == str(name) or worker.startswith(f"{name}-") for worker in present)]
        lost = [name for name in absent if cluster.workers.get(name) is seen[name] and seen[name].job_id not in queue]
        self._n_lost = 0 if present else self._n_lost + sum(seen[name].job_id is not None for name in lost)
        for name in lost:
            log.warning("job %s of %s has disappeared, or was not accepted; submitting another one", seen[name].job_id, name)
            _write_off(cluster.workers.pop(name))
        stuck = [job.job_id for job in seen.values() if self._kind == "slurm" and self._is_stuck(job.job_id, queue)]
        self._in_vain = self._in_vain + 1 if stuck and not present and len(stuck) == len(seen) else 0
        if lost:
            await cluster._correct_state()

    def _is_stuck(self, job: str | None, queue: Mapping[str, list[str]]) -> bool:
        """Whether Slurm says that a job will never start; logged once per job."""
        if job is None:
            return False
        state, *reasons = queue.get(job, ["?"])
        reason = "".join(reasons).strip("()")
        if state != "PENDING" or reason not in NEVER:
            return False
        if job not in self._reported:
            change = f"change labeller.slurm.{NEVER[reason]}" if NEVER[reason] else f"scontrol release {job}"
            self._reported[job] = f"{reason}; {change}"
            log.error("job %s cannot start: %s", job, self._reported[job])
        return True


def _write_off(job: Any) -> None:
    """Mark a job as failed for Dask, which would otherwise raise at its end because of the missing job."""
    job.status = type(job.status).failed
