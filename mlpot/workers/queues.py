"""Batch systems: the same keys for Slurm, PBS, SGE and LSF, as arguments of dask-jobqueue's clusters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

from ..errors import ConfigError, quoted
from ..labellers.packages import imported_package
from ..labellers.protocol import LAUNCHER

CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
CLUSTER_KEYS = {"scheduler_options", "shared_temp_directory"}
OWN_KEYS = {
    "self", "args", "kwargs", "base_class_kwargs", "scheduler", "name", "processes", "worker_command", "nanny", "python",
    "config_name", "security", "extra", "env_extra", "job_extra", "header_skip",
}  # fmt: skip
"""Arguments of dask-jobqueue that mlpot sets, that TOML cannot express, or that are deprecated."""
DEPRECATED = {"slurm": {"project"}, "pbs": {"project"}}
LAUNCHERS = {
    "srun": "srun --ntasks={tasks} --cpus-per-task={cores}",
    "mpirun": "mpirun -np {tasks}",
    "mpiexec": "mpiexec -n {tasks}",
}
SHARED_CORES = ("OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy")
"""Variables of OpenMPI: labels that share a job must not all be bound to its first cores."""
ELSEWHERE = {
    ("pbs", "qos"): "job_extra_directives", ("sge", "qos"): "job_extra_directives", ("lsf", "qos"): "job_extra_directives",
    ("pbs", "constraint"): "resource_spec", ("sge", "constraint"): "resource_spec", ("sge", "nodes"): "job_extra_directives",
}  # fmt: skip


@dataclass(frozen=True)
class JobShape:
    """The resources of a job: the keys of `labeller.slurm`, `labeller.pbs`, ... that dask-jobqueue does not have.

    Parameters
    ----------
    tasks : int
        MPI processes per label.
    cores : int
        Cores per MPI process.
    nodes : int or None
        Nodes per job.
    gpus : int or None
        GPUs per label.
    qos, constraint : str or None
        Names in the batch system.
    launcher : str or None
        "srun", "mpirun", "mpiexec", or a complete command; replaces {launcher} in the parameters of a calculator.
    labels_per_job : int
        Labels calculated at the same time in one job.
    """

    tasks: int = 1
    cores: int = 1
    nodes: int | None = None
    gpus: int | None = None
    qos: str | None = None
    constraint: str | None = None
    launcher: str | None = None
    labels_per_job: int = 1

    @property
    def processes(self) -> int:
        """MPI processes per job."""
        return self.tasks * self.labels_per_job


NUMBERS = ("tasks", "cores", "nodes", "gpus", "labels_per_job")
SHAPE_KEYS = {field.name for field in fields(JobShape)}


def checked_jobs(kind: str, settings: Mapping[str, Any]) -> JobShape:
    """The shape of jobs; checks that all settings are known and may be set by the user.

    Parameters
    ----------
    kind : "slurm", "pbs", "sge" or "lsf"
    settings : dict

    Raises
    ------
    ConfigError
        Naming the key.
    """
    job = getattr(imported_package("dask_jobqueue", kind), CLASSES[kind]).job_cls
    named = {name for base in job.__mro__ for name in signature(base.__init__).parameters}
    known = sorted((named | CLUSTER_KEYS | SHAPE_KEYS) - OWN_KEYS - DEPRECATED.get(kind, set()))
    for key, value in settings.items():
        here = f"labeller.{kind}.{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{here}: unknown key; {hint}")
        if (kind, key) in ELSEWHERE:
            raise ConfigError(f"{here}: {kind.upper()} has no general option for this; use {ELSEWHERE[kind, key]} instead")
        if key in NUMBERS and not (isinstance(value, int) and not isinstance(value, bool) and value > 0):
            raise ConfigError(f"{here} = {quoted(value)}: must be a positive integer")
        if key in SHAPE_KEYS - set(NUMBERS) and not (isinstance(value, str) and value and value.isprintable()):
            raise ConfigError(f"{here} = {quoted(value)}: must be one line of text")
    if "memory" not in settings:
        raise ConfigError(f'labeller.{kind}.memory: missing; add the memory of a job per node, such as memory = "8GB"')
    shape = JobShape(**{key: settings[key] for key in SHAPE_KEYS & set(settings)})
    if shape.nodes and shape.processes % shape.nodes:
        raise ConfigError(f"labeller.{kind}.nodes = {shape.nodes}: does not divide the {shape.processes} processes of a job")
    if shape.launcher == "srun" and kind != "slurm":
        raise ConfigError(f'labeller.{kind}.launcher = "srun": exists in Slurm only; use "mpirun" or another')
    return shape


def cluster_arguments(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of dask-jobqueue's cluster for jobs with these settings; see `checked_jobs`."""
    shape = checked_jobs(kind, settings)
    given = {key: value for key, value in settings.items() if key not in SHAPE_KEYS}
    # Dask's nanny would set 1; the value in the environment of the submitting process is not for this job
    prologue = [f"export OMP_NUM_THREADS={shape.cores}", *_launcher_lines(shape, settings["memory"])]
    given["job_script_prologue"] = [*prologue, *given.get("job_script_prologue", ())]
    arguments, extra, skip = _directives(kind, shape, given)
    given["job_extra_directives"] = [*extra, *given.get("job_extra_directives", ())]
    given["job_directives_skip"] = [*skip, *given.get("job_directives_skip", ())]
    if shape.labels_per_job > 1:
        given["worker_extra_args"] = [f"--nworkers={shape.labels_per_job}", *given.get("worker_extra_args", ())]
    # one thread per label
    return {"cores": shape.labels_per_job, "processes": shape.labels_per_job, **arguments, **given}


def _launcher_lines(shape: JobShape, memory: str) -> list[str]:
    """Lines of the job script that set the launcher."""
    if shape.launcher is None:
        return []
    command = LAUNCHERS.get(shape.launcher, shape.launcher).format(tasks=shape.tasks, cores=shape.cores)
    if shape.launcher == "srun" and shape.labels_per_job > 1:
        part = imported_package("dask.utils", "slurm").parse_bytes(memory) // shape.labels_per_job
        command += f" --exact --mem={max(1, part // 10**6)}M"  # otherwise the first label takes the whole job
    lines = ["export {}='{}'".format(LAUNCHER, command.replace("'", "'\\''"))]
    if shape.labels_per_job > 1:
        lines += [f"export {name}=none" for name in SHARED_CORES]
    return lines


def _directives(kind: str, shape: JobShape, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Arguments, additional directives, and the directives of dask-jobqueue that they replace, by their first characters."""
    return {"slurm": _slurm, "pbs": _pbs, "sge": _sge, "lsf": _lsf}[kind](shape, given)


def _slurm(shape: JobShape, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    gpus = shape.gpus and shape.gpus * shape.labels_per_job
    named = {"nodes": shape.nodes, "gpus": gpus, "qos": shape.qos, "constraint": shape.constraint}
    extra = [f"--{name}={value}" for name, value in named.items() if value is not None]
    if shape.processes == 1:
        return {"job_cpu": shape.cores}, extra, []
    return {"job_cpu": shape.cores}, [f"--ntasks={shape.processes}", *extra], ["#SBATCH -n 1"]


def _pbs(shape: JobShape, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    nodes = shape.nodes or 1
    per_node = shape.processes // nodes
    size = imported_package("dask.utils", "pbs").parse_bytes(given["memory"]) // 10**6
    spec = f"select={nodes}:ncpus={per_node * shape.cores}:mpiprocs={per_node}:mem={size}MB"
    if shape.gpus:
        spec += f":ngpus={-(-shape.gpus * shape.labels_per_job // nodes)}"
    return {"resource_spec": spec}, [], []


def _sge(shape: JobShape, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    slots = shape.processes * shape.cores
    if slots > 1 and not any(str(line).lstrip().startswith("-pe") for line in given.get("job_extra_directives", ())):
        raise ConfigError(
            f'labeller.sge: a job of {slots} cores needs a parallel environment; add job_extra_directives = ["-pe NAME {slots}"] '
            "with a NAME of `qconf -spl`"
        )
    return {}, [f"-l gpu={shape.gpus * shape.labels_per_job}"] if shape.gpus else [], []


def _lsf(shape: JobShape, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    extra, skip = [], []
    if shape.nodes and shape.nodes > 1:
        extra.append(f'-R "span[ptile={shape.processes // shape.nodes * shape.cores}]"')
        skip.append("span[hosts=1]")
    if shape.gpus:
        extra.append(f'-gpu "num={shape.gpus * shape.labels_per_job}"')
    if shape.constraint:
        extra.append(f'-R "select[{shape.constraint}]"')
    return {"ncpus": shape.processes * shape.cores}, extra, skip
