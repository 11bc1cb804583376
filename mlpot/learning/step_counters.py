"""Step counters of a walker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StepCounters:
    """The present step of a walker, and the steps of its last label and of its last check label."""

    step: int = 0
    last_label: int = 0
    last_check: int = 0

    @property
    def since_label(self) -> int:
        """Steps since the last label, or since the start."""
        return self.step - self.last_label

    @property
    def since_check(self) -> int:
        """Steps since the last check label, or since the start."""
        return self.step - self.last_check
