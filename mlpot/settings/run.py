"""Settings that the loop of a run takes from the sections of its file."""

from __future__ import annotations

from typing import Self

from ..keys.base import Settings
from .labeller import CapacitySettings
from .learning import EndSettings
from .output import RecordSettings


class RunSettings(CapacitySettings, EndSettings, RecordSettings):
    """Recording and early termination of a run: the keys of [output], [learning] and [labeller] used by its loop."""

    @classmethod
    def of(cls, *sections: Settings) -> Self:
        """Collected from sections that have these keys."""
        return cls(**{name: value for section in sections for name, value in section if name in cls.model_fields})
