"""How far a walker is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Steps of a walker, and at which of them it was labelled and checked last."""

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
