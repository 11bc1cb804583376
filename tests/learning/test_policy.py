"""Decisions on numbers alone: limits, budgets, decorrelation, looks, checks, convergence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpot.learning.history import History, Observation
from mlpot.learning.policy import (
    ALARM,
    DOUBTFUL,
    EARLY,
    EXTREME,
    FEWEST_BEFORE_CHECK,
    HIGH,
    KNOWN,
    LONGEST_CHECK,
    LOOK,
    LOOKS,
    PATIENCE,
    TELLING,
    Rules,
    Situation,
    Use,
    decide,
    first_check,
    limits_of,
    look_after,
    next_check,
)
from mlpot.models.prediction import ExpectedErrors
from mlpot.settings.learning import TARGET, TARGET_ENERGY
from mlpot.units import GIGAPASCAL

TARGET_STRESS = 1.0 * GIGAPASCAL

RULES = Rules(threshold=0.2, novelty=5.0, check_interval="off")
SURE = {"force": 0.1, "energy": 0.001, "stress": 0.1 * GIGAPASCAL}


def learned(force=0.01, energy=0.001, stress=0.0, worst=0.6):
    """What a label showed, the expected errors after which were these."""
    return Observation(0.4, worst, 0.1, 0.2, ExpectedErrors(force, energy, stress))


TRIED = History((learned(),))


def situation(force=0.1, energy=0.001, stress=0.1 * GIGAPASCAL, **changes):
    now = Situation(ExpectedErrors(force, energy, stress), novelty=0.5, since_label=1000, since_check=0, n_labels=10)
    return replace(now, **changes)


def test_the_targets_of_a_user_who_says_nothing():
    assert (TARGET, TARGET_ENERGY, Rules().target_stress) == (0.2, 0.010, 1.0)
    limits = limits_of(Rules(), 10, Use(stress=True))
    assert (limits.force, limits.energy, limits.stress) == (TARGET, TARGET_ENERGY, TARGET_STRESS)
    assert limits_of(Rules(), 10, Use()).stress is None
    limits = limits_of(Rules(), 10, Use(stress=True, share=0.5))
    assert (limits.force, limits.energy, limits.stress) == (TARGET, TARGET_ENERGY / 2, TARGET_STRESS / 2)


def test_an_adaptive_threshold_comes_down_to_the_target_by_itself():
    """With every label of the run, and whatever the model says of itself."""
    found = [limits_of(Rules(target=0.3), n, Use(stress=True)) for n in range(1, 12)]
    assert found[0].force == pytest.approx(EARLY * 0.3)
    assert found[0].energy == pytest.approx(EARLY * TARGET_ENERGY) and found[0].stress > TARGET_STRESS
    forces = [limits.force for limits in found]
    assert forces == sorted(forces, reverse=True) and forces[2:] == [0.3] * 9
    assert limits_of(Rules(target=0.3), 1, Use(early=False)).force == 0.3
    assert limits_of(RULES, 1, Use()).force == 0.2  # a number is a number


def test_a_model_that_cannot_do_better_does_not_raise_the_threshold():
    unsure = History((learned(force=5.0),) * 10)
    decision = decide(Rules(), unsure, situation(force=1.0, n_labels=20))
    assert decision.threshold == TARGET and decision.action == "label"


@pytest.mark.parametrize(
    ("rules", "now", "action", "reason"),
    [
        ({}, {}, "go on", "certain"),
        ({}, {"expected": None, "novelty": None}, "label", "no model"),
        ({}, {"force": 0.21}, "label", "uncertain"),
        ({}, {"energy": 0.011}, "label", "uncertain"),
        ({"target_energy": 0.02}, {"energy": 0.011}, "go on", "certain"),
        ({}, {"stress": 1.1 * GIGAPASCAL}, "go on", "certain"),
        ({}, {"stress": 1.1 * GIGAPASCAL, "use": Use(stress=True)}, "label", "uncertain"),
        ({}, {"stress": None, "use": Use(stress=True)}, "go on", "certain"),
        ({"target_stress": 2.0}, {"stress": 1.1 * GIGAPASCAL, "use": Use(stress=True)}, "go on", "certain"),
        ({}, {"force": 0.04, "use": Use(max_force=0.05)}, "go on", "certain"),
        ({}, {"force": 0.06, "use": Use(max_force=0.05)}, "label", "uncertain"),
        ({}, {"force": 0.21, "use": Use(max_force=5.0)}, "label", "uncertain"),
        ({}, {"use": Use(stress=True, max_stress=0.05 * GIGAPASCAL)}, "label", "uncertain"),
        ({}, {"novelty": 5.1, "force": 0.11}, "label", "novel"),
        ({}, {"novelty": 5.1, "force": 0.09}, "go on", "certain"),
        ({"min_interval": 10}, {"force": 0.21, "since_label": 9}, "go on", "too soon"),
        ({"min_interval": 10}, {"energy": 0.0102, "since_label": 9}, "go on", "too soon"),
        ({"min_interval": 10}, {"force": 0.21, "since_label": 10}, "label", "uncertain"),
        ({"min_interval": 10}, {"force": 0.2 * ALARM + 0.01, "since_label": 1}, "label", "uncertain"),
        ({"min_interval": 10}, {"energy": 0.01 * ALARM + 0.001, "since_label": 1}, "label", "uncertain"),
        ({"min_interval": 10}, {"novelty": 5.1, "force": 0.11, "since_label": 1}, "label", "novel"),
        ({}, {"force": 9.0, "novelty": 9.0, "moved": 0.9 * KNOWN}, "go on", "known"),
        ({"max_labels": 1}, {"force": 9.0, "moved": 0.9 * KNOWN, "asked": 1}, "go on", "known"),
        ({}, {"force": 9.0, "moved": 1.1 * KNOWN}, "label", "uncertain"),
        ({"soft_fraction": 0.4}, {}, "queue", "soft"),
        ({"soft_fraction": 0.4}, {"force": 0.01, "energy": 0.005}, "queue", "soft"),
        ({"soft_fraction": 0.6}, {}, "go on", "certain"),
        ({"soft_fraction": 0.4}, {"queued": 1}, "go on", "certain"),
        ({"soft_fraction": 0.4, "min_interval": 10}, {"since_label": 5}, "go on", "certain"),
        ({"check_interval": 50}, {"since_check": 50}, "queue", "check"),
        ({"check_interval": 50}, {"since_check": 49}, "go on", "certain"),
        ({"check_interval": 50}, {"since_check": 50, "queued": 1}, "go on", "certain"),
        ({"check_interval": "auto"}, {"since_check": 70, "check_interval": 70}, "queue", "check"),
        ({"check_interval": "auto"}, {"since_check": 69, "check_interval": 70}, "go on", "certain"),
        ({"check_interval": "auto"}, {"since_check": 70, "since_label": 9, "check_interval": 70}, "go on", "certain"),
        ({}, {"since_check": 10**9}, "go on", "certain"),
        ({"max_labels": 3}, {"force": 0.3, "asked": 3}, "stop", "budget spent"),
        ({"max_labels": 3}, {"force": 0.3, "asked": 2}, "label", "uncertain"),
        ({"max_labels": 3}, {"asked": 3}, "go on", "certain"),
        ({"max_labels": 3, "check_interval": 50}, {"since_check": 50, "asked": 3}, "go on", "budget spent"),
        ({"max_labels": 0}, {"expected": None, "novelty": None}, "stop", "budget spent"),
    ],
)
def test_decisions(rules, now, action, reason):
    decision = decide(RULES.changed(**rules), TRIED, situation(**now))
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.label == (action == "label")


def test_dynamics_go_on_with_what_labels_do_not_take_away():
    """The model's own discrepancy is beyond the target: the verdict says so, and more labels do not help."""
    expected = ExpectedErrors(0.5, 0.001, None, learnable=0.1)
    assert decide(RULES, TRIED, situation(expected=expected)).reason == "certain"
    for use in (Use(early=False), Use(max_force=0.3)):
        assert decide(RULES, TRIED, situation(expected=expected, use=use)).reason == "uncertain"
    unsure = ExpectedErrors(0.5, 0.001, None, learnable=0.3)
    assert decide(RULES, TRIED, situation(expected=unsure)).reason == "uncertain"


def test_what_decided_is_said_first():
    decision = decide(RULES, TRIED, situation(force=0.1, energy=0.02, stress=3 * GIGAPASCAL))
    assert decision.kind == "energy" and decision.urgency == pytest.approx(2.0)
    assert decision.why.startswith("expected energy error 20 meV/atom (limit 10)")
    assert "expected force error 0.1 eV/A (limit 0.2)" in decision.why and "GPa" not in decision.why
    decision = decide(RULES, TRIED, situation(stress=3 * GIGAPASCAL, use=Use(stress=True)))
    assert decision.kind == "stress" and decision.why.startswith("expected stress error 3 GPa (limit 1)")
    assert (decision.expected, decision.threshold) == (0.1, 0.2)
    nothing = decide(RULES, TRIED, situation(expected=None, novelty=None))
    assert nothing.urgency == np.inf and nothing.why == "there is no model yet"


def test_a_label_right_after_another_is_of_no_use_where_the_model_remains_unsure():
    """The last labels left expected errors of twice the limit: only the decorrelation time asks for more of them."""
    rules, unsure = RULES.changed(min_interval=10), History((learned(force=0.4),) * 5)
    soon = {"since_label": 2, "force": 2 * ALARM * 0.2 - 0.01}
    assert decide(rules, TRIED, situation(**soon)).reason == "uncertain"
    assert decide(rules, unsure, situation(**soon)).reason == "too soon"
    assert decide(rules, unsure, situation(**{**soon, "since_label": 10})).reason == "uncertain"
    assert decide(rules, unsure, situation(**{**soon, "force": 2 * ALARM * 0.2 + 0.01})).reason == "uncertain"


def test_a_label_that_found_its_prediction_right_is_trusted_for_a_while():
    """What was expected to be off by twice the limit, and was not, need not be labelled again at the next turn."""
    rules, right = RULES.changed(min_interval=10), History((learned(), learned(worst=0.19)))
    soon = {"since_label": 2, "force": 0.2 * ALARM**2 - 0.01}
    assert decide(rules, History((learned(worst=0.19), learned())), situation(**soon)).reason == "uncertain"
    assert decide(rules, right, situation(**soon)).reason == "too soon"
    assert decide(rules, right, situation(**{**soon, "since_label": 10})).reason == "uncertain"
    assert decide(rules, right, situation(**{**soon, "force": 0.2 * ALARM**2 + 0.01})).reason == "uncertain"


def test_no_alarm_is_raised_near_a_labelled_structure():
    """Its label would tell the same once more; the decorrelation time still asks for one."""
    rules = RULES.changed(min_interval=10)
    soon = {"since_label": 2, "force": 0.2 * ALARM + 0.01}
    assert decide(rules, TRIED, situation(**soon, moved=0.9 * TELLING)).reason == "too soon"
    assert decide(rules, TRIED, situation(**soon, moved=1.1 * TELLING)).reason == "uncertain"
    assert decide(rules, TRIED, situation(**{**soon, "since_label": 10}, moved=0.9 * TELLING)).reason == "uncertain"


def test_a_model_that_few_errors_have_tested_is_looked_at_where_atoms_have_moved():
    """It may be sure of itself for want of knowing better; not after a number of steps."""
    for n_tested, moved, reason in (
        (0, LOOK - 0.01, "certain"),
        (0, LOOK + 0.01, "untried"),
        (0, np.inf, "untried"),
        (1, LOOK + 0.01, "certain"),
        (1, 2 * LOOK + 0.01, "untried"),
        (LOOKS, np.inf, "certain"),
    ):
        history = History((learned(),) * n_tested)
        assert decide(RULES, history, situation(moved=moved, since_label=1)).reason == reason
    assert (
        decide(RULES, History(), situation(moved=0.5 * LOOK, since_label=10**6, since_check=10**6)).reason == "certain"
    )
    assert look_after(LOOKS) == np.inf
    closely = situation(moved=0.01, use=Use(look=0.0))
    assert [decide(RULES, h, closely).reason for h in (History(), History((learned(),) * LOOKS))] == [
        "untried",
        "certain",
    ]


def test_checks_come_ever_more_rarely_while_they_find_what_is_expected():
    rules = Rules(min_interval=100)
    interval, seen = first_check(rules), []
    assert interval == 100 and first_check(Rules()) == FEWEST_BEFORE_CHECK
    for _ in range(12):
        interval = next_check(rules, interval, error=0.05, is_surprise=False, is_check=True)
        seen.append(interval)
    assert seen[:3] == [300, 900, 2700] and seen[-1] == LONGEST_CHECK
    assert sum(100 * 3**k for k in range(4)) > 2000  # no more than three in 2000 steps
    for is_check in (True, False):  # any label may show that the model is worse than it says
        assert next_check(rules, 800, error=0.09, is_surprise=True, is_check=is_check) == 100
        assert next_check(rules, 800, error=TARGET + 0.01, is_surprise=False, is_check=is_check) == 100
    assert next_check(rules, 800, error=0.05, is_surprise=False, is_check=False) == 800
    assert next_check(Rules(threshold=0.5), 800, error=0.3, is_surprise=False, is_check=True) == 2400


def test_a_run_that_is_hotter_than_its_labels_is_checked_soon():
    rules = Rules(min_interval=100)
    for hotter, since, action in ((False, 150, "go on"), (True, 150, "queue"), (True, 90, "go on")):
        now = situation(since_label=since, since_check=since, check_interval=800, is_hotter=hotter)
        assert decide(rules, TRIED, now).action == action


def test_checks_that_are_due_wait_for_a_structure_that_is_as_uncertain_as_any():
    """Not for ever; checks at a given interval do not."""
    rules = Rules(min_interval=100)
    for part, since, action in (
        (0.5, 900, "go on"), (HIGH + 0.01, 900, "queue"), (2.0, 900, "queue"), (2.0, 700, "go on"), (0.5, 800 * PATIENCE, "queue")
    ):  # fmt: skip
        now = situation(force=0.05, since_label=since, since_check=since, check_interval=800, peak=0.05 / part)
        assert decide(rules, TRIED, now).action == action, (part, since)
    now = situation(force=0.01, since_check=50, peak=0.1)
    assert decide(rules.changed(check_interval=50), TRIED, now).action == "queue"


def test_atoms_apart_are_labelled_at_once_or_in_dynamics_after_a_while():
    rules = RULES.changed(min_interval=100)
    for early, since, reason in ((True, 99, "certain"), (True, 100, "apart"), (False, 1, "apart")):
        now = situation(since_label=since, use=Use(early=early), is_apart=True)
        assert decide(rules, TRIED, now).reason == reason


def test_alarms_wait_for_longer_with_every_label_that_was_right():
    """Up to `EXTREME`; and the next one that was wrong ends that."""
    rules, limit = Rules(min_interval=100), TARGET
    for rights, bound in ((0, ALARM), (1, ALARM**2), (2, ALARM**3), (6, EXTREME)):
        history = History((*(learned(worst=2 * limit),) * 2, *(learned(worst=0.5 * limit),) * rights))
        for excess, action in ((0.95 * bound, "go on"), (1.05 * bound, "label")):
            now = situation(force=excess * limit, since_label=20, moved=1.0)
            assert decide(rules, history, now).action == action, (rights, excess)


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 1), st.floats(0, 100), st.integers(0, 50), st.integers(0, 50))
def test_nothing_unknown_is_ever_trusted(force, energy, stress, novelty, since_label, asked):
    """Whatever else is asked for: beyond the alarm, or in unknown territory, the simulation does not go on."""
    rules = Rules(0.2, novelty=5.0, soft_fraction=0.5, check_interval=20, min_interval=10, max_labels=25)
    now = Situation(ExpectedErrors(force, energy, stress), novelty, since_label, since_label, 0, asked, use=Use(True))
    decision = decide(rules, TRIED, now)
    worst = max(force / 0.2, energy / TARGET_ENERGY, stress / TARGET_STRESS)
    if (novelty > 5.0 and worst > DOUBTFUL) or worst > ALARM:
        assert decision.action in ("label", "stop")
    if decision.action in ("label", "queue"):
        assert asked < 25


def test_alarms_near_a_labelled_structure_wait_unless_they_are_extreme():
    rules = Rules(min_interval=100)
    history = History((learned(),) * 3)
    near, far, alarm = TELLING / 2, 2 * TELLING, 2 * ALARM**2
    for moved, ratio, label in ((near, alarm, False), (far, alarm, True), (near, 2 * EXTREME, True)):
        now = situation(force=0.2 * ratio, since_label=1, moved=moved)
        assert decide(rules, history, now).label == label


def test_dynamics_go_on_with_a_discrepancy_that_no_label_takes_away():
    errors = ExpectedErrors(force=0.5, energy=0.0, stress=None, learnable=0.1)
    history = History((learned(),) * 3)
    now = replace(situation(since_label=1000), expected=errors)
    assert not decide(Rules(), history, now).label
    differences = replace(now, use=Use(early=False, max_force=0.3))
    assert decide(Rules(), history, differences).label
