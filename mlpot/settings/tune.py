"""Section [tune]: the space and the course of a search by `mlpot tune`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, model_validator

from ..keys.base import Settings
from ..keys.quantities import PURE, Count, Seed, Unit

MethodName = Literal["swarm", "nevergrad", "cma", "random"]
ObjectiveName = Literal["forces", "energies", "cost"]
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d)?\s*")


def _checked_duration(value: Any) -> Any:
    """Seconds of a duration such as "30min"; a plain number is in seconds."""
    if isinstance(value, str):
        found = DURATION.fullmatch(value)
        if found is None:
            raise ValueError('must be a duration such as "90s", "30min", "2h" or "1d"')
        value = float(found[1]) * SECONDS[found[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError('must be longer than nothing, such as "30min"')
    return value


Duration = Annotated[Annotated[PositiveFloat, Unit("s")] | str, BeforeValidator(_checked_duration)]


class TuneSettings(Settings):
    """Search for settings of the model: what describes environments first, then noises, energy scales and sparse points."""

    search: dict[str, Any] = Field(
        {},
        description="Settings to search, by their path: [low, high], a list of choices, or a table with low, high, log, choices. "
        "Chosen from the data when left out.",
        examples=[{"terms[1].cutoff": [2.5, 6.0], "terms[1].zeta": [2, 3, 4]}],
    )
    steps: tuple[Literal["features", "weights", "joint"], ...] = Field(
        ("features", "weights"),
        description='Steps of the search: "features" compares settings of terms without a full fit, "weights" then determines '
        'noises, energy scales and sparse points from one fit of each finalist; "joint", alone, makes a full fit for every trial.',
    )
    loss: Literal["kernel", "linear"] = Field(
        "kernel",
        description='Model of the step "features": kernels of a few environments, or linear in the summed features.',
    )
    method: MethodName = Field(
        "swarm", description='Optimiser: an asynchronous particle swarm, or one of the packages nevergrad and cma, or "random".'
    )
    objectives: Annotated[tuple[ObjectiveName, ...], Field(min_length=1)] = Field(
        ("forces", "energies", "cost"),
        description="Quantities to be minimised: errors on left-out structures, and the measured time of a prediction (us/atom).",
    )
    max_cost: Annotated[PositiveFloat, Unit("us/atom")] | None = Field(
        None, description="Largest cost of the chosen model; the most accurate one at any cost when left out.", examples=[40.0]
    )
    evaluations: Count | None = Field(
        None, description="Trials in all; 15 for every setting that is searched (30 to 120) when left out.", examples=[60]
    )
    budget: Duration | None = Field(
        None, description='Wall time for trials, such as "30min"; the final fits come on top.', examples=["30min"]
    )
    workers: Count = Field(1, description="Trials at the same time, each in a process.")
    particles: Count | None = Field(None, description="Size of the swarm; 8, or twice the workers, when left out.", examples=[8])
    groups: str = Field(
        "auto",
        min_length=1,
        description='Structures that are left out together: "auto", up to ten consecutive structures of a trajectory (same atoms '
        'and config_type, correlated forces); "config_type"; "structure"; or a key in the info of the structures.',
    )
    environments: Count = Field(2000, description="Atoms of the training data on which trials are made; whole groups are drawn.")
    probes: Count = Field(150, description='Environments of each element in the kernels of the step "features".')
    finalists: Count = Field(3, description='Trials that are fitted in the step "weights".')
    replicas: Annotated[NonNegativeInt, PURE] = Field(
        2, description="Repetitions of the final fit with other seeds, for the spread of its errors."
    )
    seed: Seed = Field(0, description="Seed of the search and of the choice of structures that are held out.")

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        if self.steps not in (("features", "weights"), ("features",), ("joint",)):
            raise ValueError(
                f'steps = {list(self.steps)}: must be ["features", "weights"], ["features"] or ["joint"]'
            )
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives = {list(self.objectives)}: names one twice")
        if set(self.objectives) == {"cost"}:
            raise ValueError('objectives = ["cost"]: the cheapest model is an empty one; add "forces" or "energies"')
        return self

    @property
    def seconds(self) -> float | None:
        """`budget` in seconds."""
        return None if self.budget is None else float(self.budget)
