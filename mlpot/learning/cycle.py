"""The learning cycle: look at a structure, decide, label it, learn the label, describe the step.

Scripts (`calculator`), `mlpot learn` (`walker`, `runner`) and `mlpot driver` (`served_run`) go through the same cycle. They differ in
who moves the atoms, in the model that predicts, and in how many structures wait for labels at the same time:

look      the caller predicts the structure, with its own neighbour lists
decide    `LearningCycle.assess`
label     `LearningCycle.respond` and `request`; `obtain` for several structures at the same time
learn     `Campaign.settle`, for labels requested without waiting `Campaign.poll`
describe  `LearningCycle.describe`: the row of log.csv
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ase import Atoms

from ..errors import LabelError
from ..models.prediction import Prediction
from .campaign import Answer, Campaign, Query
from .label_outcome import PriorPrediction
from .log_format import Step
from .policy import CONFIRM, Decision, Use
from .step_counters import StepCounters


class BudgetSpent(LabelError):
    """A label is needed and the budget does not allow it: the run ends here, cleanly."""


@dataclass(frozen=True)
class Assessment:
    """A structure, the prediction for it, and the decision on that prediction.

    Parameters
    ----------
    atoms : ase.Atoms
    decision : Decision
    prediction : Prediction or None
        None as long as there is no model.
    prior : PriorPrediction or None
        What the label will be compared with; None where no label is wanted, or without a model.
    """

    atoms: Atoms
    decision: Decision
    prediction: Prediction | None = None
    prior: PriorPrediction | None = None

    @property
    def needs_label(self) -> bool:
        """Whether the simulation cannot go on without a label, even if the budget does not allow one."""
        return self.decision.action in ("label", "stop")

    @property
    def urgency(self) -> float:
        """Largest ratio of an expected error to its limit; infinite without a model."""
        return self.decision.urgency

    @property
    def predicted(self) -> Prediction:
        """The prediction, where there must be one."""
        if self.prediction is None:
            raise RuntimeError("a structure is answered by a prediction before there is a model")
        return self.prediction


class LabelNeeded(Exception):
    """A walker needs a label before it can finish its step; whoever runs the walker gets the label and repeats the step."""

    def __init__(self, assessment: Assessment):
        super().__init__(assessment.decision.reason)
        self.assessment = assessment


@dataclass(frozen=True)
class Event:
    """Result of one calculation.

    Parameters
    ----------
    decision : Decision
    prediction : Prediction or None
        The prediction that was decided on.
    answer : Answer or None
        The label, or its failure, if there was one.
    queued : Query or None
        The request for a label that the simulation does not wait for.
    """

    decision: Decision
    prediction: Prediction | None
    answer: Answer | None = None
    queued: Query | None = None


class LearningCycle:
    """The part of one walker in a campaign: its decisions, its requests for labels, its steps.

    Parameters
    ----------
    campaign : Campaign
    walker : str
        The name under which its labels and steps are recorded.
    resume : str
        How the user continues a run whose budget is spent, for the message.

    Attributes
    ----------
    counters : StepCounters
        Number of steps made, and the steps of the last labels.
    """

    def __init__(self, campaign: Campaign, walker: str, resume: str = "continue with --resume"):
        self.campaign, self.walker, self.resume = campaign, walker, resume
        self.counters = StepCounters()

    def assess(self, atoms: Atoms, prediction: Prediction | None, use: Use) -> Assessment:
        """Decide what to do with a prediction for these atoms."""
        n_queued = sum(query.walker == self.walker for query in self.campaign.queue)
        decision = self.campaign.learner.decide(prediction, atoms, self.counters, n_queued, use)
        return self._assessment(atoms, prediction, decision)

    def confirmation_of(self, atoms: Atoms, prediction: Prediction | None, use: Use) -> Assessment:
        """Ask for a label whatever the prediction says: to confirm the end of a relaxation, or the answer of a script."""
        decision = replace(self.assess(atoms, prediction, use).decision, action="label", reason=CONFIRM)
        return self._assessment(atoms, prediction, decision)

    def _assessment(self, atoms: Atoms, prediction: Prediction | None, decision: Decision) -> Assessment:
        if prediction is None or decision.action not in ("label", "queue"):
            return Assessment(atoms, decision, prediction)
        return Assessment(atoms, decision, prediction, self.campaign.learner.prior(prediction))

    def about(self, decision: Decision, atoms: Atoms, prediction: Prediction | None) -> Assessment:
        """A decision that another structure answers: a part of the one on which it was made."""
        return self._assessment(atoms, prediction, decision)

    def respond(self, assessment: Assessment, label: Callable[[Assessment], Answer]) -> Event:
        """Carry out a decision: the label that is known, a new one, a queued one, or none.

        Parameters
        ----------
        assessment : Assessment
        label : callable
            Gets a label that the simulation waits for; whatever it raises passes.

        Raises
        ------
        BudgetSpent
            If a label is needed that the budget does not allow.
        """
        decision, prediction = assessment.decision, assessment.prediction
        if assessment.needs_label or decision.reason == "known":
            known = self.campaign.known(assessment.atoms)
            if known is not None:
                return Event(replace(decision, action="go on", reason="known"), prediction, known)
        if assessment.needs_label:
            self.check_budget(assessment)
            return Event(decision, prediction, label(assessment))
        queued = self.queue(assessment) if decision.action == "queue" else None
        return Event(decision, prediction, queued=queued)

    def check_budget(self, assessment: Assessment) -> None:
        """BudgetSpent if `max_labels` does not allow the label that a structure needs."""
        learner = self.campaign.learner
        if learner.is_spent(assessment.decision.reason):
            raise BudgetSpent(
                f"walker {self.walker}: a label is needed ({assessment.decision.why}), but all labels that "
                f"max_labels = {learner.rules.max_labels} allows have been used; increase max_labels and {self.resume}"
            )

    def request(self, assessment: Assessment) -> Query:
        """Have the label of a structure started; BudgetSpent if there are to be no more labels."""
        self.check_budget(assessment)
        reason, step = assessment.decision.reason, self.counters.step
        query = self.campaign.ask(assessment.atoms, assessment.prior, reason, self.walker, step)
        self.counters.last_label = step
        return query

    def queue(self, assessment: Assessment) -> Query:
        """Have a label started that the simulation does not wait for; `Campaign.poll` learns it when it has come."""
        query = self.request(assessment)
        self.campaign.enqueue(query)
        self.counters.last_check = self.counters.step
        return query

    def describe(self, decision: Decision, answer: Answer | None, **motion: Any) -> Step:
        """The row of log.csv for a step that was decided like this.

        Parameters
        ----------
        decision : Decision
        answer : Answer or None
            The label of the step, if one was needed.
        **motion
            The fields of `Step` that describe the structure and its prediction: step, n_steps, time_fs, energy_eV, ...
        """
        learner, outcome = self.campaign.learner, None if answer is None else answer.outcome
        return Step(
            threshold=decision.threshold,
            model_version=learner.model_version,
            n_labels=learner.n_labels,
            expected_error_eV_per_A=decision.expected,
            force_error_eV_per_A=None if outcome is None else outcome.force_error,
            novelty=decision.novelty,
            reason=decision.reason if answer is None else answer.reason(decision.reason),
            walker=self.walker,
            n_queued=len(self.campaign.queue),
            **motion,
        )


def obtain(
    waiting: Sequence[tuple[LearningCycle, Assessment]], note: Callable[[Answer], Answer] = lambda answer: answer
) -> list[Answer]:
    """Labels of structures of one campaign: calculated at the same time, learned in this order.

    Parameters
    ----------
    waiting : sequence of (LearningCycle, Assessment)
    note : callable
        Takes note of each answer, once it is learned.

    Raises
    ------
    BudgetSpent
        If `max_labels` does not allow one of them.
    LabelError
        If one failed and the plan is to stop then.
    """
    queries = [cycle.request(assessment) for cycle, assessment in waiting]  # all are under way before any is waited for
    both = zip(waiting, queries, strict=True)
    queries = [cycle.campaign.followed_up(query, assessment.decision.limits) for (cycle, assessment), query in both]
    return [note(cycle.campaign.settle(query)) for (cycle, _), query in zip(waiting, queries, strict=True)]
