"""What the loop of a run needs of the sections of its file."""

from __future__ import annotations

from typing import Self

from ..keys.base import Settings
from .labeller import CapacitySettings
from .learning import EndSettings
from .output import RecordSettings


class RunSettings(CapacitySettings, EndSettings, RecordSettings):
    """How a run is recorded and when it ends early: the keys of [output], [learning] and [labeller] that its loop uses."""

    @classmethod
    def of(cls, *sections: Settings) -> Self:
        """Collected from sections that have these keys."""
        return cls(**{name: value for section in sections for name, value in section if name in cls.model_fields})
