"""Executors of labels on other machines: an existing Dask cluster, or batch jobs whose number follows the number of labels.

A worker of the cluster runs each label in a separate process, as the local executor does, so that a crash affects that label only and
a time limit can be enforced. mlpot must be installed there, and the run folder must have the same path. If a worker dies, because its
job was cancelled or its node failed, Dask gives its label to another worker; the label is found in the inbox if it was finished.

Whoever can connect to the port of a scheduler can run code in all processes that are connected to it. The scheduler of batch jobs
therefore accepts only connections with a certificate that was made for this run (TLS on both sides), listens on one address, and
serves no web pages.
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
"""Options of the HTTP server that Dask always starts: no pages, on the loopback interface only."""
CERTIFICATES = ("ca", "certificate", "key")
CONNECT_SECONDS = 30.0
EAGER = "0.1s"
"""Dask requests as many workers as would finish the waiting tasks in this time; it does not know that labels take hours."""
IDLE_CHECKS = 60
"""A job ends after this many checks, one per second, in which it was idle: labels come in bursts."""
GUARDIAN = "MLPOT_GUARDIAN"
"""Environment variable of the workers of a job: pid of the process with which the labels of the job end."""
SECRETS = "certificates"
"""Folder for certificates next to the output of the jobs. Only its owner can read it; every run creates it again."""
log = logging.getLogger(__name__)


class ClusterExecutor(Executor):
    """Runs each task in a separate process on a worker of a Dask cluster.

    If a worker dies, another worker gets its task; a task with which several workers have died counts as failed.

    Parameters
    ----------
    client : distributed.Client
    timeout : float or None
        Wall-time limit (s) after which a task and everything it has started is killed.
    keep_failed : Path or None
        Folder in which the files of failed tasks are saved; None discards them.
    resources : ExitStack
        Closed at the end of this executor.
    """

    def __init__(self, client: Any, timeout: float | None, keep_failed: Path | None, resources: ExitStack):
        self._client, self._resources = client, resources
        self._dask = client.get_executor(pure=False)  # a failed label is requested again with the same arguments
        self._timeout = timeout
        self._keep_failed = None if keep_failed is None else keep_failed.absolute()
        self.dropped: str | None = None

    def submit(self, fn, /, *args, **kwargs) -> Future:
        """Start fn(*args, **kwargs) on a worker; everything must be picklable."""
        if self.dropped is not None:
            raise RuntimeError(self.dropped)
        if self._client.status not in ("running", "connecting"):
            raise RuntimeError(f"the connection to the Dask scheduler is {self._client.status}")
        task = pickle.dumps((fn, args, kwargs))
        return self._dask.submit(run_on_worker, task, list(sys.path), self._timeout, self._keep_failed)

    def drop(self, why: str) -> None:
        """Cancel all tasks and accept no more, because the cluster does not work; `why` is kept in `dropped`."""
        log.error("%s", why)
        self.dropped = why
        self._dask.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close the connection and end jobs that were started for it; with `wait`, after the tasks."""
        self._dask.shutdown(wait=wait and not cancel_futures)
        self._resources.close()

    def __exit__(self, kind, value, traceback) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


def run_on_worker(task: bytes, path: list[str], timeout: float | None, keep_failed: Path | None) -> Any:
    """Run a task on a worker of the cluster.

    The process of the task survives the worker, but not its job: it ends with the process named by `cluster_worker`, or with the
    parent of the worker, which is Dask's nanny.
    """
    guardian = int(os.environ.get(GUARDIAN, os.getppid()))
    return run_alone(task, path, timeout, keep_failed, identity(guardian))


def dask_executor(
    address: str, timeout: float | None, keep_failed: Path | None, certificates: Mapping[str, Path] | None = None
) -> ClusterExecutor:
    """An executor on an existing Dask cluster.

    Parameters
    ----------
    address : str
        Address of its scheduler, "tcp://node1:8786" or, with certificates, "tls://node1:8786".
    timeout, keep_failed
        See `ClusterExecutor`.
    certificates : mapping of str to Path, optional
        Files in PEM format: "ca", the certificate authority that both sides trust, "certificate" and "key" of this client.

    Raises
    ------
    ConfigError
        If `distributed` is not installed, or no scheduler answers at the address.
    """
    distributed = imported_package("distributed", "dask")
    security = None if certificates is None else _security(distributed, certificates)
    if security is None:
        log.warning(
            "labeller.scheduler = %r: the connection is not protected: whoever can reach this port can run programs as you; see "
            "labeller.tls", address,
        )  # fmt: skip
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
    """TLS for a client; ConfigError naming a missing file."""
    for name in CERTIFICATES:
        if not certificates[name].is_file():
            raise ConfigError(f"labeller.tls.{name} = {str(certificates[name])!r}: no such file; give a file in PEM format")
    ca, certificate, key = (str(certificates[name]) for name in CERTIFICATES)
    return distributed.Security(require_encryption=True, tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key)


def queue_executor(
    kind: str, settings: Mapping[str, Any], max_labels: int, timeout: float | None, keep_failed: Path | None, logs: Path
) -> ClusterExecutor:
    """An executor whose workers are batch jobs; their number follows the number of waiting labels, up to a limit.

    Parameters
    ----------
    kind : "slurm", "pbs", "sge" or "lsf"
    settings : dict
        Keys of `queues.JobShape`, and keyword arguments of dask_jobqueue's cluster: queue, account, memory, walltime,
        job_script_prologue, job_extra_directives, ... OMP_NUM_THREADS is set to the cores of a task, unless the prologue sets it.
    max_labels : int
        Largest number of labels at the same time.
    timeout, keep_failed
        See `ClusterExecutor`.
    logs : Path
        Folder for the output of the jobs.

    Raises
    ------
    ConfigError
        If dask-jobqueue is not installed, or does not accept the settings.
    """
    distributed, jobqueue = imported_package("distributed", kind), imported_package("dask_jobqueue", kind)
    dask, _ = imported_package("dask", kind), imported_package("cryptography", kind)  # cryptography makes the certificates
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
        raise ConfigError(f"labeller.{kind} = {dict(settings)!r}: no cluster can be started with this: {error}") from error
    return executor


def _scheduler_options(distributed: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the scheduler: no web pages, and one address, of the given `interface` or the outside address of this machine."""
    options = {**NO_PAGES, **given.get("scheduler_options", {})}
    if "interface" not in given and not options.keys() & {"host", "interface"}:
        options["host"] = distributed.utils.get_ip()
    return options


def _check_job(script: str) -> None:
    """RuntimeError if Slurm would not accept a job; Dask would only log that, repeatedly, and wait indefinitely."""
    command = ["sbatch", "--test-only", "/dev/stdin"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=CONNECT_SECONDS)
    if done.returncode:
        raise RuntimeError(f"Slurm refuses such a job: {done.stderr.strip()}")
