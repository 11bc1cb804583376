"""What happens in the calculation of a walker, and what may end it."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms

from ..errors import LabelError
from ..models.prediction import Prediction
from .campaign import Answer, Query
from .policy import Decision


class BudgetSpent(LabelError):
    """A label is needed and `max_labels` allows no more: the run ends here, cleanly."""


class LabelNeeded(Exception):
    """A walker cannot finish its step before it has a label; whoever runs it gets one and repeats the step."""

    def __init__(self, decision: Decision, prediction: Prediction | None, atoms: Atoms):
        super().__init__(decision.reason)
        self.decision, self.prediction, self.atoms = decision, prediction, atoms


@dataclass(frozen=True)
class Event:
    """What happened in one calculation.

    Parameters
    ----------
    decision : Decision
    prediction : Prediction or None
        That it was about.
    answer : Answer or None
        What came of a label.
    queued : Query or None
        A label that nobody waits for.
    """

    decision: Decision
    prediction: Prediction | None
    answer: Answer | None = None
    queued: Query | None = None
