"""Executors of labels on other machines: a Dask cluster that is there, or one that grows and shrinks as batch jobs.

A worker of the cluster runs each label in a process of its own, as the local executor does, so that a crash costs that label
and a hang is ended; it needs mlpot installed, and the run folder under the same path. A label whose worker dies, because its
job was cancelled or its node failed, is given to another by Dask, and found in the inbox if it was finished.

Who reaches a scheduler's port can have code run by everybody who is connected to it. The scheduler of batch jobs therefore takes
only connections with a certificate that was made for this run (TLS on both sides), listens on one address, and serves no web pages.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from ..durable import private_folder
from ..errors import ConfigError
from ..labellers.packages import imported_package
from ..processes import identity
from .job_watch import JobWatch
from .local import run_alone
from .queues import CLASSES, cluster_arguments

NO_PAGES = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
NO_ROUTES: dict[str, list[str]] = {"distributed.scheduler.http.routes": []}
"""Dask always starts an HTTP server. With these options it has no pages and listens on the loopback interface only."""
CERTIFICATES = ("ca", "certificate", "key")
CONNECT_SECONDS = 30.0
EAGER = "0.1s"
"""Dask asks for as many workers as finish what waits in this time; it does not know that labels take hours."""
IDLE_CHECKS = 60
"""A job ends when it was idle in so many checks, one a second: labels come in bursts."""
GUARDIAN = "MLPOT_GUARDIAN"
"""The pid of the process that a job's labels do not outlive, in the environment of its workers."""
SECRETS = "certificates"
"""Folder for certificates beside the output of the jobs. Only its owner can read it; every run creates it again."""
log = logging.getLogger(__name__)


class ClusterExecutor(Executor):
    """Runs each task in a process of its own on some worker of a Dask cluster.

    A worker that dies is no failure of its task, which another gets; a task at which several have died fails.

    Parameters
    ----------
    client : distributed.Client
    timeout : float or None
        Seconds after which a task, and all that it started, is killed.
    keep_failed : Path or None
        Folder for what failed tasks leave; None discards it.
    resources : ExitStack
        What ends with this executor.
    """

    def __init__(self, client: Any, timeout: float | None, keep_failed: Path | None, resources: ExitStack):
        self._client, self._resources = client, resources
        self._dask = client.get_executor(pure=False)  # a label that failed is asked for again
        self._timeout = timeout
        self._keep_failed = None if keep_failed is None else keep_failed.absolute()

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Start fn(*args, **kwargs) somewhere; everything must be picklable."""
        if self._client.status not in ("running", "connecting"):
            raise RuntimeError(f"the connection to the Dask scheduler is {self._client.status}")
        task = pickle.dumps((fn, args, kwargs))
        return self._dask.submit(run_on_worker, task, list(sys.path), self._timeout, self._keep_failed)

    def drop(self) -> None:
        """Cancel all tasks and take no more: the cluster does not work."""
        self._dask.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the connection, and the jobs if they were started for it; with `wait`, after the tasks."""
        self._dask.shutdown(wait=wait and not cancel_futures)
        self._resources.close()

    def __exit__(self, kind, value, traceback) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


def run_on_worker(task: bytes, path: list[str], timeout: float | None, keep_failed: Path | None) -> Any:
    """What a worker of the cluster is given to do.

    The process that it starts survives the worker itself, but not the job: not the process that `cluster_worker` says, or
    else the worker's parent, which is Dask's nanny.
    """
    guardian = int(os.environ.get(GUARDIAN, os.getppid()))
    return run_alone(task, path, timeout, keep_failed, identity(guardian))


def dask_executor(
    address: str, timeout: float | None, keep_failed: Path | None, certificates: Mapping[str, Path] | None = None
) -> ClusterExecutor:
    """An executor on a Dask cluster that is running.

    Parameters
    ----------
    address : str
        Of its scheduler, "tcp://node1:8786" or, with certificates, "tls://node1:8786".
    timeout, keep_failed
        As of `ClusterExecutor`.
    certificates : mapping of str to Path, optional
        Files in PEM format: "ca", the authority that both sides trust, "certificate" and "key" of this client.

    Raises
    ------
    ConfigError
        If `distributed` is not installed, or nobody answers at the address.
    """
    distributed = imported_package("distributed", "dask")
    security = None if certificates is None else _security(distributed, certificates)
    if security is None:
        log.warning("labeller.scheduler = %r: whoever reaches this port can run programs as you; see labeller.tls", address)
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"labeller.scheduler = {address!r}: no Dask scheduler answers there ({error}); start one with `dask scheduler`, "
            "and workers with `dask worker ADDRESS --nthreads 1`"
        ) from error
    resources = ExitStack()
    resources.callback(client.close)
    return ClusterExecutor(client, timeout, keep_failed, resources)


def _security(distributed: ModuleType, certificates: Mapping[str, Path]) -> Any:
    """TLS for a client; ConfigError naming a file that is not there."""
    for name in CERTIFICATES:
        if not certificates[name].is_file():
            raise ConfigError(f"labeller.tls.{name} = {str(certificates[name])!r}: no such file; give a file in PEM format")
    ca, certificate, key = (str(certificates[name]) for name in CERTIFICATES)
    return distributed.Security(require_encryption=True, tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key)


def queue_executor(
    kind: str, settings: Mapping[str, Any], max_labels: int, timeout: float | None, keep_failed: Path | None, logs: Path
) -> ClusterExecutor:
    """An executor whose workers are batch jobs: none while there is nothing to do, as many as the labels need up to a limit.

    Parameters
    ----------
    kind : "slurm", "pbs", "sge" or "lsf"
    settings : dict
        Keys of `queues.JobShape`, and keyword arguments of dask_jobqueue's cluster: queue, account, memory, walltime,
        job_script_prologue, job_extra_directives, ... OMP_NUM_THREADS is the cores of a task, unless the prologue sets it.
    max_labels : int
        Labels at a time.
    timeout, keep_failed
        As of `ClusterExecutor`.
    logs : Path
        Folder for the output of the jobs.

    Raises
    ------
    ConfigError
        If dask-jobqueue is not installed, or does not take the settings.
    """
    distributed, jobqueue = imported_package("distributed", kind), imported_package("dask_jobqueue", kind)
    dask, _ = imported_package("dask", kind), imported_package("cryptography", kind)  # the latter makes the certificates
    given = cluster_arguments(kind, settings)
    n_jobs = -(-max_labels // given["processes"])
    given = {"log_directory": str(logs), **given, "scheduler_options": _scheduler_options(distributed, given)}
    given = {"shared_temp_directory": str(private_folder(logs / SECRETS)), **given}
    resources = ExitStack()
    try:
        with dask.config.set(NO_ROUTES):
            cluster = getattr(jobqueue, CLASSES[kind])(
                worker_command="mlpot.workers.cluster_worker", silence_logs=logging.ERROR, security=True, **given
            )
        resources.callback(cluster.close)
        if kind == "slurm":
            _check_job(cluster.job_script())
        cluster.adapt(minimum_jobs=0, maximum_jobs=n_jobs, target_duration=EAGER, wait_count=IDLE_CHECKS)
        client = distributed.Client(cluster, set_as_default=False)
        resources.callback(client.close)
        executor = ClusterExecutor(client, timeout, keep_failed, resources)
        resources.enter_context(JobWatch(kind, cluster, executor.drop))
    except (OSError, ValueError, TypeError, RuntimeError, subprocess.SubprocessError) as error:
        resources.close()
        raise ConfigError(f"labeller.{kind} = {dict(settings)!r}: no cluster can be made of it: {error}") from error
    return executor


def _scheduler_options(distributed: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the scheduler: without pages, and at one address, that of the `interface` or the one this machine has to the outside."""
    options = {**NO_PAGES, **given.get("scheduler_options", {})}
    if "interface" not in given and not options.keys() & {"host", "interface"}:
        options["host"] = distributed.utils.get_ip()
    return options


def _check_job(script: str) -> None:
    """RuntimeError when Slurm would not take a job; Dask only logs that, again and again, and goes on waiting."""
    command = ["sbatch", "--test-only", "/dev/stdin"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=CONNECT_SECONDS)
    if done.returncode:
        raise RuntimeError(f"Slurm refuses such a job: {done.stderr.strip()}")
