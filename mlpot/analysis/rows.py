"""A measured property of a descriptor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Parameters
    ----------
    criterion : str
        One of `criteria.CRITERIA`.
    name : str
    value : float or None
        None where it could not be measured, or does not apply; see `note`.
    unit : str
    limit : float or None
        The largest value with which a descriptor passes; None: a number to compare, without a verdict.
    note : str
        What the value depends on, or why there is none.
    failed : bool
        Whether measuring it ended in an error, which is no pass.
    """

    criterion: str
    name: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    note: str = ""
    failed: bool = False

    @property
    def passed(self) -> bool | None:
        """Verdict; None where there is none."""
        if self.failed:
            return False
        if self.limit is None or self.value is None:
            return None
        return bool(self.value <= self.limit)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite are null."""
        found = asdict(self) | {"passed": self.passed}
        if self.value is not None and not np.isfinite(self.value):
            found["value"] = None
        return found


def relative(change: np.ndarray, features: np.ndarray) -> float:
    """Largest change of a feature in units of the largest feature; infinity for numbers that are not finite."""
    if not (np.all(np.isfinite(change)) and np.all(np.isfinite(features))):
        return float("inf")
    size = float(np.abs(features).max(initial=0.0))
    largest = float(np.abs(change).max(initial=0.0))
    return largest / size if size > 0 else largest
