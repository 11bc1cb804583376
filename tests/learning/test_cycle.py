"""The learning cycle that scripts, runs and drivers share: what is done with a decision, and what is recorded of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from mlpot.learning.campaign import Answer, Query
from mlpot.learning.cycle import Assessment, BudgetSpent, LearningCycle, obtain
from mlpot.learning.policy import Decision, Limits, Rules, Use
from mlpot.models.prediction import ExpectedErrors

ATOMS = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]])
ERRORS, LIMITS = ExpectedErrors(0.4, 0.02, None), Limits(0.2, 0.05)


class Campaign:
    """Answers at once, and remembers in which order things were asked for and learned."""

    def __init__(self, max_labels=None, known=None, decided=None):
        self.learner = SimpleNamespace(
            rules=Rules(max_labels=max_labels), n_asked=0, model_version=3, n_labels=2, decide=lambda *a: decided, prior=lambda p: p
        )
        self.learner.is_spent = lambda reason: self.learner.rules.are_spent(self.learner.n_asked)
        self.queue, self.events, self._known = [], [], known

    def known(self, atoms):
        return self._known

    def ask(self, atoms, prior, reason, walker, step):
        self.learner.n_asked += 1
        self.events.append(("ask", walker))
        return Query(f"{walker}{step}", atoms, prior, reason, walker, step)

    def enqueue(self, query):
        self.queue.append(query)

    def followed_up(self, query, limits):
        return query

    def settle(self, query):
        self.events.append(("settle", query.walker))
        return Answer(query, query.atoms, None, True, None)


def decision(action, reason="uncertain"):
    return Decision(action, reason, 0.4, 1.5, 0.2, ERRORS, LIMITS)


def cycle(campaign, step=7, walker="w"):
    made = LearningCycle(campaign, walker)
    made.counters.step = step
    return made


def never(assessment):
    raise AssertionError("a label was made")


def test_a_needed_label_is_made_unless_it_is_known():
    campaign = Campaign()
    own = cycle(campaign)
    event = own.respond(Assessment(ATOMS, decision("label")), lambda assessment: obtain([(own, assessment)])[0])
    assert event.answer.paid and event.decision.reason == "uncertain" and campaign.events == [("ask", "w"), ("settle", "w")]
    known = Answer(Query("k", ATOMS, None, "known", "", 0), ATOMS, None, False, None)
    for action in ("label", "stop"):
        event = cycle(Campaign(known=known)).respond(Assessment(ATOMS, decision(action)), never)
        assert event.answer is known and (event.decision.action, event.decision.reason) == ("go on", "known")


def test_a_queued_label_is_not_waited_for():
    campaign = Campaign()
    own = cycle(campaign)
    event = own.respond(Assessment(ATOMS, decision("queue", "check")), never)
    assert campaign.queue == [event.queued] and event.answer is None and campaign.events == [("ask", "w")]
    assert (own.counters.since_label, own.counters.since_check) == (0, 0)
    assert own.respond(Assessment(ATOMS, decision("go on", "certain")), never).queued is None


def test_the_budget_is_worded_once():
    campaign = Campaign(max_labels=1)
    own = LearningCycle(campaign, "w", resume="try again")
    own.request(Assessment(ATOMS, decision("label")))
    text = r"^walker w: a label is needed \(expected force error 0.4 eV/A \(limit 0.2\), .*\), but all labels that max_labels = 1 "
    text += "allows have been used; increase max_labels and try again$"
    for ask in (own.request, own.queue, lambda assessment: own.respond(assessment, never)):
        with pytest.raises(BudgetSpent, match=text):
            ask(Assessment(ATOMS, decision("stop")))
    assert campaign.learner.n_asked == 1 and campaign.queue == []


def test_several_labels_are_under_way_before_any_is_waited_for():
    campaign, noted = Campaign(), []
    waiting = [(cycle(campaign, walker=name), Assessment(ATOMS, decision("label"))) for name in "ab"]
    answers = obtain(waiting, lambda answer: noted.append(answer.query.walker) or answer)
    assert campaign.events == [("ask", "a"), ("ask", "b"), ("settle", "a"), ("settle", "b")]
    assert noted == ["a", "b"] == [answer.query.walker for answer in answers]


def test_a_prior_prediction_is_kept_where_a_label_is_wanted():
    prediction = object()
    for action, prior in (("go on", None), ("queue", prediction), ("label", prediction), ("stop", None)):
        assert cycle(Campaign(decided=decision(action))).assess(ATOMS, prediction, Use()).prior is prior
    confirmed = cycle(Campaign(decided=decision("go on", "certain"))).confirmation_of(ATOMS, prediction, Use())
    assert (confirmed.decision.action, confirmed.decision.reason, confirmed.prior) == ("label", "confirm", prediction)
    without = cycle(Campaign(decided=decision("label", "no model"))).assess(ATOMS, None, Use())
    assert without.prior is None
    with pytest.raises(RuntimeError):
        _ = without.predicted


def test_the_row_of_a_step():
    campaign = Campaign()
    own = cycle(campaign)
    own.queue(Assessment(ATOMS, decision("queue")))
    motion = {"step": 7, "n_steps": 9, "time_fs": 3.5, "temperature_K": 300.0, "energy_eV": -1.0, "max_energy_std_eV": 0.1,
              "labelled": True, "seconds": 2.0}  # fmt: skip
    query = Query("k", ATOMS, None, "uncertain", "w", 7)
    outcome = SimpleNamespace(force_error=0.3)
    row = own.describe(decision("label"), Answer(query, ATOMS, outcome, True, None), **motion)
    assert (row.walker, row.n_queued, row.model_version, row.n_labels) == ("w", 1, 3, 2)
    assert (row.threshold, row.expected_error_eV_per_A, row.force_error_eV_per_A, row.novelty) == (0.2, 0.4, 0.3, 1.5)
    failed = own.describe(decision("label"), Answer(query, None, None, True, "no"), **motion)
    assert (row.reason, failed.reason, failed.force_error_eV_per_A) == ("uncertain", "failed", None)
    assert own.describe(replace(decision("go on"), reason="certain"), None, **motion).reason == "certain"
    assert np.isinf(Assessment(ATOMS, Decision("label", "no model", None, None, None)).urgency)
