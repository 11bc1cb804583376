"""Section [labeller]: which calculator makes labels, where, and what happens when one fails."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from ..keys.base import Settings
from ..keys.quantities import Angstrom, Count, Seconds, Unit
from .defaults import DEFAULT_CALCULATOR, NET_FORCE_TOLERANCE

BATCH_SYSTEMS = ("slurm", "pbs", "sge", "lsf")


class TlsSettings(Settings):
    """Certificates for a Dask scheduler at tls://..."""

    ca: str = Field(description="PEM file of the certificate authority that both sides trust.", examples=["ca.pem"])
    certificate: str = Field(description="PEM file with the certificate of this client.", examples=["client.pem"])
    key: str = Field(description="PEM file with the private key of this client.", examples=["client-key.pem"])


class CalculationSettings(Settings):
    """Settings of the calculation of a single label."""

    calculator: str = Field(
        DEFAULT_CALCULATOR, description="Import path of an ASE calculator, package.module.Class, or of a function that makes one."
    )
    parameters: dict[str, Any] = Field({}, description="Keyword arguments of the calculator.")
    timeout_s: Seconds | None = Field(None, description="Wall-time limit of one calculation.", examples=[3600.0])
    tries: Count = Field(2, description="Calculations that are tried before a label counts as failed.")


class CapacitySettings(Settings):
    """Number of labels calculated in parallel, and resources of each."""

    workers: Count = Field(1, description="Labels that are calculated at the same time, in processes or batch jobs.")
    cores: Count = Field(1, description="Cores of one label, for the budget of processor time and the cost in the report.")


class LabellingPlan(CapacitySettings, CalculationSettings):
    """Settings of labelling: section [labeller], and the argument `labelling` of `LearningCalculator`."""

    fallback: dict[str, Any] = Field(
        {}, description="Parameters that replace those of the same name from the second try on; tables are merged key by key."
    )
    on_failure: Literal["stop", "go on"] = Field("stop", description="What a run does when a label has failed.")
    cluster: Angstrom | None = Field(
        None,
        description="Edge of the periodic block around the least certain atom that is labelled instead of a large structure; with "
        'dynamics.engine = "lammps".',
        examples=[12.0],
    )
    net_force_tolerance: Annotated[PositiveFloat, Unit("eV/A")] | Literal["off"] = Field(
        NET_FORCE_TOLERANCE, description='Largest net force per atom of a label that is accepted; "off" with an external field.'
    )
    executor: Literal["local", "dask", "slurm", "pbs", "sge", "lsf"] = Field(
        "local", description="Where labels are calculated: on this machine, on a Dask cluster, or in batch jobs."
    )
    scheduler: str | None = Field(
        None, description="Address of the Dask scheduler, with executor = \"dask\".", examples=["tcp://node1:8786"]
    )
    tls: TlsSettings | None = Field(
        None,
        description="Certificates for the Dask scheduler; without them anyone who reaches its port can run programs as you.",
        examples=[{"ca": "ca.pem", "certificate": "client.pem", "key": "client-key.pem"}],
    )
    slurm: dict[str, Any] = Field(
        {},
        description="Slurm jobs: queue, account, memory, walltime, tasks, cores, nodes, gpus, qos, launcher, labels_per_job, and "
        "other arguments of dask_jobqueue.",
        examples=[{"queue": "normal", "cores": 16, "memory": "32GB", "walltime": "04:00:00"}],
    )
    pbs: dict[str, Any] = Field(
        {},
        description="PBS jobs, with the same keys as slurm.",
        examples=[{"queue": "normal", "tasks": 16, "memory": "32GB", "walltime": "04:00:00"}],
    )
    sge: dict[str, Any] = Field(
        {},
        description="SGE jobs, with the same keys as slurm.",
        examples=[{"memory": "32GB", "tasks": 16, "job_extra_directives": ["-pe mpi 16"]}],
    )
    lsf: dict[str, Any] = Field(
        {},
        description="LSF jobs, with the same keys as slurm.",
        examples=[{"queue": "normal", "tasks": 16, "memory": "32GB", "walltime": "04:00"}],
    )

    @model_validator(mode="after")
    def _executor_is_complete(self) -> Self:
        if self.fallback and self.tries == 1:
            raise ValueError("fallback is for the second try, but tries = 1; raise tries, or remove fallback")
        if self.executor == "dask" and not self.scheduler:
            raise ValueError('scheduler: missing; name the address of the Dask scheduler, such as "tcp://node1:8786"')
        owners = [("scheduler", self.scheduler, "dask"), ("tls", self.tls, "dask")]
        owners += [(kind, getattr(self, kind), kind) for kind in BATCH_SYSTEMS]
        for key, value, executor in owners:
            if value and self.executor != executor:
                raise ValueError(f'{key} is for executor = "{executor}", but executor = "{self.executor}"; remove one of them')
        return self

    @property
    def largest_net_force(self) -> float | None:
        """`net_force_tolerance` in eV/A per atom, None for "off"."""
        return None if self.net_force_tolerance == "off" else self.net_force_tolerance
