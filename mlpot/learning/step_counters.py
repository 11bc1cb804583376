"""Step counters of a walker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StepCounters:
    """The present step of a walker, and the steps of its last label and of its last check label.

    `peak` is the largest expected error of the forces (eV/A) since the last label that the present model, `peak_version`, has stated.
    """

    step: int = 0
    last_label: int = 0
    last_check: int = 0
    peak: float = 0.0
    peak_version: int = -1

    @property
    def since_label(self) -> int:
        """Steps since the last label, or since the start."""
        return self.step - self.last_label

    def peak_of(self, version: int) -> float:
        """Largest expected error that this version of the model has stated since the last label, eV/A; 0 at first."""
        return self.peak if version == self.peak_version else 0.0

    def note(self, expected: float, version: int) -> None:
        """Note an expected error of the forces, eV/A, that this version of the model has stated."""
        self.peak, self.peak_version = max(expected, self.peak_of(version)), version

    @property
    def since_check(self) -> int:
        """Steps since the last check label, or since the start."""
        return self.step - self.last_check
