"""The criteria of a good descriptor, measured.

The list is by Langer, Goessmann, Rupp, npj Comput. Mater. 8, 41 (2022), doi:10.1038/s41524-022-00721-x: invariance, uniqueness,
continuity and differentiability, efficiency, structure, generality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..errors import MlpotError
from .continuity import continuity
from .efficiency import efficiency
from .invariance import invariance
from .rows import Row
from .scope import generality, structure
from .sources import symbols
from .subject import Subject
from .uniqueness import uniqueness

CRITERIA = ("invariance", "uniqueness", "continuity", "efficiency", "structure", "generality")
MEASURES: dict[str, Callable[[Subject, np.random.Generator], list[Row]]] = {
    "invariance": invariance,
    "uniqueness": uniqueness,
    "continuity": lambda subject, rng: continuity(subject),
    "efficiency": efficiency,
    "structure": structure,
    "generality": generality,
}
FORMAT = "mlpot-criteria"
VERSION = 1


@dataclass(frozen=True)
class Criteria:
    """Results of a measurement.

    Parameters
    ----------
    name : str
        Of the descriptor.
    species : tuple of int
        Atomic numbers of the structures that it was measured on.
    reach : float
        Its cutoff, A.
    rows : tuple of Row
    curve : tuple of dict
        Points of the learning curve, see `learning.learning_curve`; empty without data.
    """

    name: str
    species: tuple[int, ...]
    reach: float
    rows: tuple[Row, ...]
    curve: tuple[dict[str, Any], ...] = ()

    @property
    def failed(self) -> list[Row]:
        """Rows with a verdict that is not good."""
        return [row for row in self.rows if row.passed is False]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, see docs/criteria.md."""
        return {
            "format": FORMAT, "version": VERSION, "mlpot": __version__, "name": self.name, "elements": symbols(self.species),
            "cutoff_A": self.reach, "rows": [row.to_dict() for row in self.rows], "learning_curve": list(self.curve),
        }  # fmt: skip


def measure(
    subject: Subject,
    criteria: Sequence[str] = CRITERIA,
    seed: int = 0,
    before: Callable[[str], None] = lambda name: None,
) -> Criteria:
    """Measure the criteria of a descriptor.

    A criterion that ends in an error is a failed row with the message.

    Parameters
    ----------
    subject : Subject
    criteria : sequence of str
        Some of `CRITERIA`.
    seed : int
        Of the random structures, rotations and splits; every criterion has its own stream, so that one does not depend on others.
    before : callable
        Called with the name of each criterion.
    """
    rows: list[Row] = []
    for k, name in enumerate(CRITERIA):
        if name not in criteria:
            continue
        before(name)
        try:
            rows += MEASURES[name](subject, np.random.default_rng([seed, k]))
        except MlpotError as error:
            rows.append(Row(name, "could not be measured", None, "", None, str(error), failed=True))
    return Criteria(subject.name, subject.species, float(subject.reach), tuple(rows))
