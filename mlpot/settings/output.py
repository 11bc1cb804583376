"""Section [output]: files that commands write, and how often."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from ..keys.base import Settings
from ..keys.quantities import SecondsOrNone, Unit

Interval = Annotated[PositiveInt, Field(description="Steps between frames of the trajectory."), Unit("steps")]


class FitOutput(Settings):
    """Files that a fit writes."""

    model: str = Field(description="Model file.", examples=["model.h5"])
    report: str | None = Field(None, description="HTML report of the fit.", examples=["report.html"])


class RecordSettings(Settings):
    """Intervals of the output of a run."""

    interval: Interval = 10
    checkpoint_s: SecondsOrNone = Field(10.0, description="Wall time between checkpoints; every label makes one as well.")
    tensorboard: bool = Field(
        False, description="Write the numbers of log.csv for TensorBoard as well, to FOLDER/tensorboard; needs tensorboardX."
    )


class RunOutput(RecordSettings):
    """Files that a run writes."""

    folder: str = Field(description="Run folder; new or empty, unless the run is resumed.", examples=["run"])


class DriverOutput(RunOutput):
    """Files that a driver writes; a frame holds all beads, and steps are short."""

    interval: Interval = 100
