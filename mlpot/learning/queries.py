"""A label that has been requested, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms

from ..models.prediction import Prediction
from ..structure_encoding import decode, encode
from .label_outcome import LabelOutcome, PriorPrediction
from .level_fit import CHEAP


@dataclass(frozen=True)
class Query:
    """A structure whose label has been requested.

    Parameters
    ----------
    key : str
        Key of the label.
    atoms : ase.Atoms
    prior : PriorPrediction or None
        The model's prediction when the label was requested.
    reason : str
        Reason of the decision.
    walker, step : str, int
        The walker that requested it, and its step.
    """

    key: str
    atoms: Atoms
    prior: PriorPrediction | None
    reason: str
    walker: str
    step: int

    def state(self) -> dict:
        """Numbers, strings and arrays, for `restore`."""
        prior = None if self.prior is None else vars(self.prior)
        return {
            "key": self.key, "atoms": encode(self.atoms), "before": prior, "reason": self.reason, "walker": self.walker,
            "step": self.step,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: dict) -> Query:
        """Inverse of `state`."""
        prior = state["before"]
        # predictions saved by earlier versions lack what this one compares with the label: they are dropped
        prior = PriorPrediction(**prior) if prior is not None and "borrowed" in prior else None
        return cls(state["key"], decode(state["atoms"]), prior, state["reason"], state["walker"], state["step"])


@dataclass(frozen=True)
class Answer:
    """Result of a query.

    Parameters
    ----------
    query : Query
    atoms : ase.Atoms or None
        The structure with its label; None if the label failed.
    outcome : LabelOutcome or None
        What the label showed; None if there is no label, if it had been learned before, or if it is not learned.
    paid : bool
        Whether it was calculated now rather than found.
    failure : str or None
        Why there is no label.
    refined : Prediction or None
        With two levels of labels, the prediction of the model that has learned the cheap label, where that was enough.
    """

    query: Query
    atoms: Atoms | None
    outcome: LabelOutcome | None
    paid: bool
    failure: str | None
    refined: Prediction | None = None

    def reason(self, decided: str) -> str:
        """The reason for log.csv of a step that was decided for the reason `decided`."""
        return "failed" if self.failure else CHEAP if self.refined is not None else decided
