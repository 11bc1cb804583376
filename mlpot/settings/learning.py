"""Section [learning]: when to ask for a label, and when a run ends."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, field_validator, model_validator

from ..keys.base import Settings
from ..keys.quantities import PURE, EnergyPerAtom, Force, Hours, Ratio, SecondsOrNone, Steps, Stress, Unit
from ..units import GIGAPASCAL

TARGET, TARGET_ENERGY = 0.2, 0.010
"""Default targets: eV/A, see `counted_error`; eV/atom."""
NOVEL = 1.5
"""Novelty from which an environment counts as unlike all that the model knows; measured in CONVENTIONS.md."""
DURATION = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")

MinInterval = Annotated[
    int,
    Field(
        ge=0,
        description="Steps of a walker between two labels, unless an error exceeds ten times its limit, or twice it more than 0.1 A "
        "from all labelled structures: the decorrelation time.",
    ),
    Unit("steps"),
]


class Rules(Settings):
    """When to ask for a label: the argument `rules` of `LearningCalculator`, and keys of section [learning]."""

    threshold: Literal["adaptive"] | Force = Field(
        "adaptive",
        description="Largest expected force error that is trusted; \"adaptive\" starts at four times the target and reaches it with "
        "the third label.",
    )
    target: Force = Field(
        TARGET, description="Force error that an adaptive threshold reaches and that the verdict compares errors with."
    )
    target_energy: EnergyPerAtom = Field(TARGET_ENERGY, description="Largest expected energy error that is trusted.")
    target_stress: Stress = Field(
        1.0, description="Largest expected stress error that is trusted, where the stress is used."
    )
    threshold_dipole: Annotated[PositiveFloat, Unit("e*A")] | None = Field(
        None,
        description="Largest expected error of a component of the dipole that is trusted, where [[targets]] has a dipole; any when "
        "left out.",
        examples=[0.02],
    )
    soft_fraction: Annotated[float, Field(gt=0, lt=1), PURE] | None = Field(
        None,
        description="Fraction of a limit above which a label is queued while the simulation continues.",
        examples=[0.6],
    )
    check_interval: Steps | Literal["auto", "off"] = Field(
        "auto",
        description="Steps between labels that only check the true error; \"auto\" triples the interval while checks agree with the "
        "expected errors, and takes them where the expected error is large.",
    )
    min_interval: MinInterval = 0
    novelty: Ratio = Field(NOVEL, description="Novelty above which environments are always labelled.")
    max_labels: Annotated[int, Field(ge=0), PURE] | None = Field(
        None, description="Budget of labels; the run ends when it would need more.", examples=[60]
    )

    @property
    def aim(self) -> float:
        """Expected force error that is trusted once the start of the run is over, eV/A."""
        return self.target if self.threshold == "adaptive" else float(self.threshold)

    @property
    def aim_stress(self) -> float:
        """`target_stress` in eV/A^3."""
        return self.target_stress * GIGAPASCAL

    def are_spent(self, asked: int) -> bool:
        """Whether the budget of labels is spent."""
        return self.max_labels is not None and asked >= self.max_labels


class EndSettings(Settings):
    """When a run ends before its last step, and how it treats queued labels."""

    asynchronous: bool = Field(
        False,
        description="Use queued labels as they arrive, instead of waiting for them; the run then cannot be repeated bit for bit.",
    )
    max_wall_hours: Hours | None = Field(
        None, description="Budget of wall time over all restarts.", examples=[24.0]
    )
    max_cpu_hours: Hours | None = Field(
        None, description="Budget of processor time over all restarts, labels included.", examples=[240.0]
    )
    deadline: str | None = Field(
        None,
        description='Time after which the run ends at a checkpoint, such as "23:30:00"; "auto" is the end of the batch job.',
        examples=["auto"],
    )
    deadline_margin_s: SecondsOrNone = Field(120.0, description="Time before the deadline at which the run ends.")
    converged_after: Steps | None = Field(
        None,
        description="Steps without a needed label after which the run ends, if check labels are below target_error.",
        examples=[5000],
    )
    target_error: Force | None = Field(
        None, description="RMS force error that check labels must be below for converged_after.", examples=[0.1]
    )

    @field_validator("deadline")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value not in (None, "auto"):
            seconds_of(value)
        return value


class LearningSettings(EndSettings, Rules):
    """When to ask for a label, and when a run ends."""

    min_interval: MinInterval = 100
    model: str | None = Field(
        None,
        description="Model whose terms, noises and sparse points the run starts from, together with the data in [data].",
        examples=["model.h5"],
    )

    @model_validator(mode="after")
    def _can_converge(self) -> Self:
        if self.converged_after is not None and (self.check_interval == "off" or self.target_error is None):
            raise ValueError("converged_after needs target_error and check labels, which measure the true error; add both")
        return self


def seconds_of(text: str) -> float:
    """A duration as batch systems write it, in s; ValueError for anything else."""
    found = DURATION.fullmatch(text)
    if found is None or int(found[3]) > 59 or int(found[4] or 0) > 59:
        raise ValueError('must be "auto", or a duration such as "23:30:00" or "2-00:00:00"')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
