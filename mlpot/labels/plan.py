"""Everything that is to be said about labels: who makes them, where, and what happens when one fails."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError
from ..labellers.calculator import DEFAULT_CALCULATOR, CalculatorLabeller
from ..labellers.given import GivenLabeller, InThisProcess, why_not_elsewhere
from ..labellers.protocol import NET_FORCE_TOLERANCE
from ..workers.cluster import dask_executor, queue_executor
from ..workers.local import SubprocessExecutor
from ..workers.queues import CLASSES, checked_jobs

FAILED, JOB_LOGS = "failed", "jobs"
"""In the run folder: records of labels that failed, and what batch jobs print."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabellingPlan:
    """How labels are made.

    Parameters
    ----------
    calculator : str
        Import path of an ASE calculator.
    parameters : dict
        Its keyword arguments.
    timeout : float or None
        Seconds after which a calculation is killed.
    tries : int
        Calculations before a label is given up.
    fallback : dict
        Parameters that replace those of the same name from the second try on; tables are replaced name by name.
    on_failure : "stop" or "go on"
        What a run does without a label that it wanted.
    net_force_tolerance : float or None
        eV/A per atom; None switches the check off.
    executor : "local", "dask", "slurm", "pbs", "sge" or "lsf"
    workers : int
        Labels at a time; on a Dask cluster its workers decide.
    scheduler : str or None
        Address of the Dask scheduler.
    tls : dict
        Files "ca", "certificate" and "key" with which it is talked to; empty: openly.
    slurm, pbs, sge, lsf : dict
        What jobs of that batch system are like: keys of `queues.JobShape`, and keyword arguments of dask_jobqueue's cluster.
    given : ase.calculators.calculator.Calculator or None
        Made already; `calculator` is the path of its class then.
    """

    calculator: str = DEFAULT_CALCULATOR
    parameters: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    tries: int = 2
    fallback: dict[str, Any] = field(default_factory=dict)
    on_failure: Literal["stop", "go on"] = "stop"
    net_force_tolerance: float | None = NET_FORCE_TOLERANCE
    executor: Literal["local", "dask", "slurm", "pbs", "sge", "lsf"] = "local"
    workers: int = 1
    scheduler: str | None = None
    tls: dict[str, str] = field(default_factory=dict)
    slurm: dict[str, Any] = field(default_factory=dict)
    pbs: dict[str, Any] = field(default_factory=dict)
    sge: dict[str, Any] = field(default_factory=dict)
    lsf: dict[str, Any] = field(default_factory=dict)
    given: Any = None

    @property
    def labeller(self) -> CalculatorLabeller:
        """Makes the first try."""
        if self.given is not None:
            return GivenLabeller(self.calculator, {}, self.net_force_tolerance, self.given)
        return CalculatorLabeller(self.calculator, self.parameters, self.net_force_tolerance)

    @property
    def fallback_labeller(self) -> CalculatorLabeller | None:
        """Makes those after it, unless they are made in the same way."""
        return self.labeller.varied(self.fallback) if self.fallback else None

    def check(self) -> None:
        """Make each calculator once, without a calculation; in a process of its own, for who knows what it does.

        Raises
        ------
        ConfigError
            If one cannot be made, or if the executor's settings contradict each other.
        """
        if self.executor == "dask" and not self.scheduler:
            raise ConfigError(
                'labeller.scheduler: missing; name the address of the Dask scheduler, as in "tcp://node1:8786"'
            )
        if self.executor in CLASSES:
            checked_jobs(self.executor, getattr(self, self.executor))
        for labeller in filter(None, (self.labeller, self.fallback_labeller)):
            labeller.check()

    def local_executor(self, folder: Path) -> Executor:
        """Processes on this machine; nothing is written into the run folder unless a task fails. This process itself where a
        calculator that was given can live nowhere else."""
        if self.given is not None and (why := why_not_elsewhere(self.given)):
            log.warning("labels are made in this process, without a time-out: the calculator cannot go elsewhere (%s)", why)
            return InThisProcess()
        return SubprocessExecutor(self.workers, self.timeout, self.labeller.modules, folder / FAILED)

    def cluster_executor(self, folder: Path) -> Executor:
        """Processes on the machines of a cluster.

        Raises
        ------
        ConfigError
            If there is no such cluster, or a package for it is missing.
        """
        if self.executor == "dask":
            if self.scheduler is None:
                raise ConfigError("labeller.scheduler is missing: the address of a Dask scheduler, such as tcp://node1:8786")
            certificates = {name: Path(file).expanduser() for name, file in self.tls.items()} or None
            return dask_executor(self.scheduler, self.timeout, folder / FAILED, certificates)
        jobs = getattr(self, self.executor)
        return queue_executor(self.executor, jobs, self.workers, self.timeout, folder / FAILED, folder / JOB_LOGS)
