"""What may stand in the section [labeller] of configuration files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from .labellers.protocol import NET_FORCE_TOLERANCE
from .labels.plan import LabellingPlan
from .settings.base import Settings
from .workers.queues import CLASSES


class TlsSettings(Settings):
    """Certificates of a client of a Dask scheduler."""

    ca: str = Field(description="file of the authority that both sides trust, PEM")
    certificate: str = Field(description="file of this client's certificate, PEM")
    key: str = Field(description="file of its key, PEM")


class LabellerSettings(Settings):
    """The electronic-structure code."""

    calculator: str = Field("tblite.ase.TBLite", description="any importable ASE calculator, package.module.Class")
    parameters: dict[str, Any] = Field({}, description="its keyword arguments")
    timeout_s: PositiveFloat | None = Field(None, description="give a calculation up after so many seconds")
    tries: PositiveInt = Field(2, description="calculations before a label is given up")
    fallback: dict[str, Any] = Field({}, description="parameters that replace these from the second try on")
    on_failure: Literal["stop", "go on"] = Field("stop", description='when a label fails: "stop" | "go on"')
    net_force_tolerance: PositiveFloat | Literal["off"] = Field(
        NET_FORCE_TOLERANCE, description='forces must add up to less, eV/A per atom; "off" with an external field'
    )
    executor: Literal["local", "dask", "slurm", "pbs", "sge", "lsf"] = Field(
        "local", description="where: local | dask | slurm | pbs | sge | lsf"
    )
    workers: PositiveInt = Field(1, description="labels at a time, in processes or in batch jobs")
    scheduler: str | None = Field(None, description="dask: the address of its scheduler")
    tls: TlsSettings | None = Field(None, description="dask: certificates, without which whoever reaches the scheduler is you")
    cores: PositiveInt = Field(1, description="of one label, for the budget and the account of costs")
    slurm: dict[str, Any] | None = Field(
        None, description="slurm: queue, account, memory, walltime, tasks, cores, nodes, gpus, qos, launcher, labels_per_job, ..."
    )
    pbs: dict[str, Any] | None = Field(None, description="pbs: likewise")
    sge: dict[str, Any] | None = Field(None, description="sge: likewise")
    lsf: dict[str, Any] | None = Field(None, description="lsf: likewise")

    @model_validator(mode="after")
    def _executor_is_complete(self) -> LabellerSettings:
        if self.fallback and self.tries == 1:
            raise ValueError("fallback: is for the second try, and tries = 1; raise tries, or remove fallback")
        if self.executor == "dask" and not self.scheduler:
            raise ValueError('scheduler: missing; name the address of the Dask scheduler, as in "tcp://node1:8786"')
        owners = [("scheduler", self.scheduler, "dask"), ("tls", self.tls, "dask")]
        owners += [(kind, getattr(self, kind), kind) for kind in CLASSES]
        for key, value, executor in owners:
            if value and self.executor != executor:
                raise ValueError(
                    f'{key}: is for executor = "{executor}", and that is "{self.executor}"; remove one of them'
                )
        return self

    def plan(self) -> LabellingPlan:
        """As the labellers take it."""
        return LabellingPlan(
            calculator=self.calculator,
            parameters=self.parameters,
            timeout=self.timeout_s,
            tries=self.tries,
            fallback=self.fallback,
            on_failure=self.on_failure,
            net_force_tolerance=None if self.net_force_tolerance == "off" else self.net_force_tolerance,
            executor=self.executor,
            workers=self.workers,
            scheduler=self.scheduler,
            tls={} if self.tls is None else self.tls.model_dump(),
            **{kind: getattr(self, kind) or {} for kind in CLASSES},
        )
