"""Labellers and executors of a labelling plan: who makes labels, and where."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from pydantic import Field

from ..errors import ConfigError
from ..labellers.calculator import CalculatorLabeller
from ..labellers.given import GivenLabeller, InThisProcess, named, why_not_elsewhere
from ..settings.labeller import BATCH_SYSTEMS, LabellingPlan
from ..workers.cluster import dask_executor, queue_executor
from ..workers.local import SubprocessExecutor
from ..workers.queues import checked_jobs

FAILED, JOB_LOGS = "failed", "jobs"
"""In the run folder: records of labels that failed, and the output of batch jobs."""
log = logging.getLogger(__name__)


class GivenPlan(LabellingPlan):
    """A plan for a calculator that a script has made; `calculator` is the path of its class."""

    given: Any = Field(description="The calculator, an instance.")


def plan_for(calculator: Any, parameters: dict[str, Any], timeout: float | None, tries: int) -> LabellingPlan:
    """The plan for a calculator as scripts have it: an import path, a class, a function or an instance, see `named`.

    Raises
    ------
    ConfigError
        If the calculator is of another kind, or a value is impossible.
    """
    path, given = named(calculator, parameters)
    own: dict[str, Any] = {"calculator": path, "parameters": parameters, "timeout_s": timeout, "tries": tries}
    return LabellingPlan(**own) if given is None else GivenPlan(**own, given=given)


def labeller_of(plan: LabellingPlan, wanted: tuple[str, ...] = ()) -> CalculatorLabeller:
    """The labeller of the first try; its labels have the results `wanted` besides energy and forces."""
    if isinstance(plan, GivenPlan):
        return GivenLabeller(plan.calculator, {}, plan.largest_net_force, wanted, plan.given)
    return CalculatorLabeller(plan.calculator, plan.parameters, plan.largest_net_force, wanted)


def fallback_of(plan: LabellingPlan, wanted: tuple[str, ...] = ()) -> CalculatorLabeller | None:
    """The labeller of later tries; None where it is the same as for the first."""
    return labeller_of(plan, wanted).varied(plan.fallback) if plan.fallback else None


def check_plan(plan: LabellingPlan, wanted: tuple[str, ...] = ()) -> None:
    """Make each calculator once, without a calculation; in a process of its own, as calculators may do anything when made.

    Raises
    ------
    ConfigError
        If a calculator cannot be made, or the keys of batch jobs are wrong.
    """
    if plan.executor in BATCH_SYSTEMS:
        checked_jobs(plan.executor, getattr(plan, plan.executor))
    for labeller in filter(None, (labeller_of(plan, wanted), fallback_of(plan, wanted))):
        labeller.check()


def local_executor(plan: LabellingPlan, folder: Path) -> Executor:
    """Processes on this machine; the run folder is written to only if a task fails. This process itself for a calculator that
    cannot be sent to another one."""
    if isinstance(plan, GivenPlan) and (why := why_not_elsewhere(plan.given)):
        log.warning("labels are made in this process, without a time-out: the calculator cannot be sent to another one (%s)", why)
        return InThisProcess()
    return SubprocessExecutor(plan.workers, plan.timeout_s, labeller_of(plan).modules, folder / FAILED)


def cluster_executor(plan: LabellingPlan, folder: Path) -> Executor:
    """Processes on the machines of a cluster.

    Raises
    ------
    ConfigError
        If there is no such cluster, or a package for it is missing.
    """
    if plan.executor == "dask":
        if plan.scheduler is None:
            raise ConfigError("labeller.scheduler is missing: give the address of a Dask scheduler, such as tcp://node1:8786")
        files = {} if plan.tls is None else dict(plan.tls)
        certificates = {name: Path(file).expanduser() for name, file in files.items()} or None
        return dask_executor(plan.scheduler, plan.timeout_s, folder / FAILED, certificates)
    jobs = getattr(plan, plan.executor)
    return queue_executor(plan.executor, jobs, plan.workers, plan.timeout_s, folder / FAILED, folder / JOB_LOGS)
